// The bodies of a Kernel's functions, compiled once for each instruction set by the file that includes this.
//
// `Lane` says how: the numbers of a Tile, a vector type `Vector` of `lanes` 32-bit sums, `zero`, `load` of weights, `spread` of one word of
// the input to all lanes, `multiply_add`, `store` of the sums, and `round`, which ends a row of them as the epilogue says
// where that is no more than a shift and bounds. All stands in an unnamed namespace or is inlined:
// no code of one instruction set may be linked into another's.
#pragma once

#include <cstring>
#include <utility>

#include "kernel.hpp"
#include "winograd_transform.hpp"

namespace lowwatt {
namespace {

// Calls `step` with 0 … Count-1 as constants, so that arrays indexed by them stay in registers.
template <typename Step, int... Index>
LOWWATT_INLINE void each_of(Step step, std::integer_sequence<int, Index...>) {
    (step(std::integral_constant<int, Index>{}), ...);
}
template <int Count, typename Step>
LOWWATT_INLINE void each(Step step) {
    each_of(step, std::make_integer_sequence<int, Count>{});
}

// `rows` pixels of at most Rows; the last one fills the tile up.
template <typename Lane, int Rows>
void run_rows(const char* const* pixels, int rows, const Segment* segments, int64_t segment_count, const char* panel,
               int32_t* sums) {
    constexpr int vectors = panel_width / Lane::lanes;
    typename Lane::Vector acc[Rows][vectors];
    each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
        each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE { acc[r][v] = Lane::zero(); });
    });
    for (int64_t s = 0; s < segment_count; ++s) {
        const char* x[Rows];
        each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
            x[r] = pixels[r < rows ? int(r) : rows - 1] + segments[s].offset;
        });
        for (int64_t word = 0; word < segments[s].words; ++word, panel += panel_word_bytes) {
            decltype(Lane::load(panel)) w[vectors];
            each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE { w[v] = Lane::load(panel + v * Lane::lanes * word_bytes); });
            each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
                const auto spread = Lane::spread(x[r] + word * word_bytes);
                each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE {
                    acc[r][v] = Lane::multiply_add(acc[r][v], spread, w[v]);
                });
            });
        }
    }
    each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
        each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE {
            Lane::store(sums + r * panel_width + v * Lane::lanes, acc[r][v]);
        });
    });
}

// A full tile, or as many thirds of one as the rows need.
template <typename Lane>
void run_tile(const char* const* pixels, int rows, const Segment* segments, int64_t segment_count, const char* panel,
              int32_t* sums) {
    constexpr int third = Lane::rows / 3;
    static_assert(Lane::rows % 3 == 0 && Lane::rows <= max_tile_rows);
    if (rows > 2 * third) return run_rows<Lane, Lane::rows>(pixels, rows, segments, segment_count, panel, sums);
    for (int r = 0; r < rows; r += third)
        run_rows<Lane, third>(pixels + r, rows - r, segments, segment_count, panel, sums + r * panel_width);
}

template <typename Lane>
constexpr Tile make_tile() {
    return {run_tile<Lane>, Lane::rows, Lane::values, Lane::offset};
}

// One row of a tile: R((2 * sum + bias) / 2^shift), clipped.
template <typename Lane>
LOWWATT_INLINE void finish_row(const int32_t* sums, const int32_t* bias, const Epilogue& epilogue, int8_t* out) {
    if (epilogue.is_plain_shift()) return Lane::round(sums, bias, epilogue, out);
    int32_t a[panel_width];
    // unsigned: the sums of x + offset wrap, and the bias brings them back
    for (int c = 0; c < panel_width; ++c) a[c] = int32_t(2 * uint32_t(sums[c]) + uint32_t(bias[c]));
    epilogue.apply(a, out, panel_width);
}

template <typename Lane>
void finish(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue, int channels, int8_t* out,
            int64_t row_stride) {
    for (int row = 0; row < rows; ++row, sums += panel_width, out += row_stride) {
        int8_t q[panel_width];
        finish_row<Lane>(sums, bias, epilogue, channels == panel_width ? out : q);
        if (channels != panel_width) std::memcpy(out, q, size_t(channels));
    }
}

template <typename Direct, typename Pairs>
constexpr Kernel make_kernel(const char* name) {
    return {name, make_tile<Direct>(), make_tile<Pairs>(), finish<Pairs>, transform_input, transform_output};
}

}  // namespace
}  // namespace lowwatt
