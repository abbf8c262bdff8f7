// The bodies of a Kernel's functions, compiled once for each instruction set by the file that includes this.
//
// `Lane` says how: the numbers of its TileSize; a type `Vector` of `lanes` 32-bit sums, which `begin` at given numbers,
// with `load` of weights, `spread` of one word of the input to all lanes and `multiply_add`; `sums`, the same as a
// plain vector, with `load_sums`, `add` and `store`; `round`, which ends sixteen sums as an epilogue says that is a
// plain shift. All stands in an unnamed namespace or is inlined: no code of one instruction set may be linked into
// another's.
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

// A window of at most Rows pixels; the last one fills the tile up. The sums of all panels' channels begin at `starts`;
// `end` takes the vectors of each row and panel.
template <typename Lane, int Rows, int Count, typename End>
LOWWATT_INLINE void run_rows(const Window& window, const Panels& panels, const int32_t* starts, const End& end) {
    constexpr int parts = panel_width / Lane::lanes, vectors = Count * parts;
    typename Lane::Vector acc[Rows][vectors];
    each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
        each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE { acc[r][v] = Lane::begin(starts + v * Lane::lanes); });
    });
    const char* weights = panels.weights;
    const int64_t panel_bytes = panels.panel_bytes;
    for (int64_t s = 0; s < window.segment_count; ++s) {
        const Segment segment = window.segments[s];
        const char* x[Rows];
        each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
            x[r] = window.pixels[r < window.rows ? int(r) : window.rows - 1] + segment.offset;
        });
        for (int64_t word = 0; word < segment.words; ++word, weights += panel_word_bytes) {
            decltype(Lane::load(weights)) w[vectors];
            each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE {
                w[v] = Lane::load(weights + v / parts * panel_bytes + v % parts * Lane::lanes * word_bytes);
            });
            each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
                const auto spread = Lane::spread(x[r] + word * word_bytes);
                each<vectors>([&](auto v) LOWWATT_ALWAYS_INLINE {
                    acc[r][v] = Lane::multiply_add(acc[r][v], spread, w[v]);
                });
            });
        }
    }
    each<Rows>([&](auto r) LOWWATT_ALWAYS_INLINE {
        each<Count>([&](auto p) LOWWATT_ALWAYS_INLINE { end(r, p, acc[r] + p * parts); });
    });
}

// A full tile, or half of one where that is enough.
template <typename Lane, int Count = Lane::panels, typename End>
LOWWATT_INLINE void run_tile(const Window& window, const Panels& panels, const int32_t* starts, const End& end) {
    static_assert(Lane::rows <= max_tile_rows && Lane::panels <= max_tile_panels);
    if constexpr (Count > 1)
        if (panels.count < Count) return run_tile<Lane, Count - 1>(window, panels, starts, end);
    constexpr int half = Lane::rows / 2;
    if (window.rows > half) run_rows<Lane, Lane::rows, Count>(window, panels, starts, end);
    else run_rows<Lane, half, Count>(window, panels, starts, end);
}

template <typename Lane>
void sums_tile(const Window& window, const Panels& panels, int32_t* sums) {
    constexpr int32_t zeros[Lane::panels * panel_width] = {};
    run_tile<Lane>(window, panels, zeros, [&](int row, int panel, const auto* acc) LOWWATT_ALWAYS_INLINE {
        each<panel_width / Lane::lanes>([&](auto v) LOWWATT_ALWAYS_INLINE {
            Lane::store(sums + (panel * Lane::rows + row) * panel_width + v * Lane::lanes, Lane::sums(acc[v]));
        });
    });
}

// `count` bytes of sixteen.
LOWWATT_INLINE void copy_some(const int8_t* q, int64_t count, int8_t* out) {
    if (count >= panel_width) {
        std::memcpy(out, q, panel_width);
        return;
    }
    if (count & 8) std::memcpy(out, q, 8), out += 8, q += 8;
    if (count & 4) std::memcpy(out, q, 4), out += 4, q += 4;
    for (int i = 0; i < (count & 3); ++i) out[i] = q[i];
}

// Rows of sums whose epilogue is a plain shift.
template <typename Lane>
LOWWATT_INLINE void finish_shift(const int32_t* sums, int rows, const Output& to, const Epilogue& epilogue) {
    constexpr int parts = panel_width / Lane::lanes;
    for (int row = 0; row < rows; ++row, sums += panel_width) {
        decltype(Lane::load_sums(sums)) a[parts];
        each<parts>([&](auto v) LOWWATT_ALWAYS_INLINE {
            a[v] = Lane::add(Lane::load_sums(sums + v * Lane::lanes), Lane::load_sums(to.bias + v * Lane::lanes));
        });
        int8_t q[panel_width];
        Lane::round(a, epilogue, q);
        copy_some(q, to.channels, to.out + row * to.row_stride);
    }
}

// Rows of sums of any other epilogue.
LOWWATT_INLINE void finish_any(const int32_t* sums, int rows, const Output& to, const Epilogue& epilogue) {
    for (int row = 0; row < rows; ++row, sums += panel_width) {
        int32_t a[panel_width];
        int8_t q[panel_width];
        // unsigned: the sums of x + offset wrap, and the bias brings them back
        for (int c = 0; c < panel_width; ++c) a[c] = int32_t(2 * uint32_t(sums[c]) + uint32_t(to.bias[c]));
        epilogue.apply(a, q, panel_width);
        copy_some(q, to.channels, to.out + row * to.row_stride);
    }
}

template <typename Lane>
void finish(const int32_t* sums, int rows, const Output& output) {
    const Output to = output;  // copies, which writing the results cannot change
    const Epilogue epilogue = output.epilogue;
    if (epilogue.is_plain_shift()) finish_shift<Lane>(sums, rows, to, epilogue);
    else finish_any(sums, rows, to, epilogue);
}

// What is left from panel `panel` on.
LOWWATT_INLINE Output behind(const Output& output, int panel) {
    const int first = panel * panel_width;
    return {output.bias + first, output.epilogue, output.channels - first, output.out + first, output.row_stride};
}

// Any epilogue: the sums go through memory.
template <typename Lane>
void direct_tile_through_sums(const Window& window, const Panels& panels, const Output& output) {
    int32_t sums[Lane::panels * Lane::rows * panel_width];
    sums_tile<Lane>(window, panels, sums);
    for (int p = 0; p < panels.count; ++p)
        finish<Lane>(sums + p * Lane::rows * panel_width, window.rows, behind(output, p));
}

template <typename Lane>
void direct_tile(const Window& window, const Panels& panels, const Output& output) {
    if (!output.epilogue.is_plain_shift()) return direct_tile_through_sums<Lane>(window, panels, output);
    const Output to = output;  // copies, which writing the results cannot change
    const Epilogue epilogue = output.epilogue;
    run_tile<Lane>(window, panels, to.bias, [&](int row, int panel, const auto* acc) LOWWATT_ALWAYS_INLINE {
        if (row >= window.rows) return;
        constexpr int parts = panel_width / Lane::lanes;
        const int first = panel * panel_width;
        decltype(Lane::sums(*acc)) a[parts];
        each<parts>([&](auto v) LOWWATT_ALWAYS_INLINE { a[v] = Lane::sums(acc[v]); });
        int8_t q[panel_width];
        Lane::round(a, epilogue, q);
        copy_some(q, to.channels - first, to.out + first + row * to.row_stride);
    });
}

template <typename Lane>
constexpr TileSize tile_size() {
    return {Lane::rows, Lane::panels, Lane::values, Lane::offset};
}

template <typename Direct, typename Pairs>
constexpr Kernel make_kernel(const char* name) {
    return {name,          tile_size<Direct>(), direct_tile<Direct>, tile_size<Pairs>(), sums_tile<Pairs>,
            finish<Pairs>, transform_input,     transform_output};
}

}  // namespace
}  // namespace lowwatt
