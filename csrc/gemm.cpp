#include "gemm.hpp"

#include <cstring>
#include <stdexcept>

#include "cpu.hpp"

#ifdef LOWWATT_X86
#include <immintrin.h>
#endif

namespace lowwatt {
namespace {

void tile_plain(const int16_t* const* pixels, int rows, const Segment* segments, int64_t segment_count,
                const int16_t* panel, int32_t* sums) {
    for (int row = 0; row < rows; ++row) {
        int32_t acc[panel_width] = {};
        const int16_t* weights = panel;
        for (int64_t s = 0; s < segment_count; ++s) {
            const int16_t* x = pixels[row] + segments[s].offset;
            for (int64_t pair = 0; pair < segments[s].pairs; ++pair, x += 2, weights += 2 * panel_width)
                for (int c = 0; c < panel_width; ++c)
                    acc[c] += int32_t(x[0]) * weights[2 * c] + int32_t(x[1]) * weights[2 * c + 1];
        }
        std::memcpy(sums + row * panel_width, acc, sizeof acc);
    }
}

LOWWATT_INLINE void finish_body(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue,
                                int channels, int8_t* out, int64_t row_stride) {
    int32_t a[panel_width];
    int8_t q[panel_width];
    for (int row = 0; row < rows; ++row, sums += panel_width, out += row_stride) {
        for (int c = 0; c < panel_width; ++c) a[c] = 2 * sums[c] + bias[c];
        epilogue.apply(a, q, panel_width);
        std::memcpy(out, q, size_t(channels));
    }
}

void finish_plain(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue, int channels,
                  int8_t* out, int64_t row_stride) {
    finish_body(sums, rows, bias, epilogue, channels, out, row_stride);
}

#ifdef LOWWATT_X86

LOWWATT_AVX2 void finish_avx2(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue,
                              int channels, int8_t* out, int64_t row_stride) {
    finish_body(sums, rows, bias, epilogue, channels, out, row_stride);
}

inline int32_t load_pair(const int16_t* x) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return pair;
}

template <int Rows>
LOWWATT_AVX2 void tile_avx2_rows(const int16_t* const* pixels, const Segment* segments,
                                                    int64_t segment_count, const int16_t* panel, int32_t* sums) {
    __m256i low[Rows], high[Rows];
    for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm256_setzero_si256();
    for (int64_t s = 0; s < segment_count; ++s) {
        const int16_t* base[Rows];
        for (int r = 0; r < Rows; ++r) base[r] = pixels[r] + segments[s].offset;
        for (int64_t pair = 0; pair < segments[s].pairs; ++pair, panel += 2 * panel_width) {
            const __m256i first = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel));
            const __m256i second = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel + panel_width));
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
                const __m256i x = _mm256_set1_epi32(load_pair(base[r] + 2 * pair));
                low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(x, first));
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(x, second));
            }
        }
    }
    for (int r = 0; r < Rows; ++r) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * panel_width), low[r]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * panel_width + 8), high[r]);
    }
}

void tile_avx2(const int16_t* const* pixels, int rows, const Segment* segments, int64_t segment_count,
               const int16_t* panel, int32_t* sums) {
    if (rows == 6) return tile_avx2_rows<6>(pixels, segments, segment_count, panel, sums);
    for (int r = 0; r < rows; ++r)
        tile_avx2_rows<1>(pixels + r, segments, segment_count, panel, sums + r * panel_width);
}

template <int Rows>
__attribute__((target("avx512f,avx512bw,avx512vnni"))) void tile_vnni_rows(const int16_t* const* pixels,
                                                                          const Segment* segments,
                                                                          int64_t segment_count,
                                                                          const int16_t* panel, int32_t* sums) {
    __m512i acc[Rows];
    for (int r = 0; r < Rows; ++r) acc[r] = _mm512_setzero_si512();
    for (int64_t s = 0; s < segment_count; ++s) {
        const int16_t* base[Rows];
        for (int r = 0; r < Rows; ++r) base[r] = pixels[r] + segments[s].offset;
        for (int64_t pair = 0; pair < segments[s].pairs; ++pair, panel += 2 * panel_width) {
            const __m512i weights = _mm512_load_si512(panel);
#pragma GCC unroll 12
            for (int r = 0; r < Rows; ++r)
                acc[r] = _mm512_dpwssd_epi32(acc[r], _mm512_set1_epi32(load_pair(base[r] + 2 * pair)), weights);
        }
    }
    for (int r = 0; r < Rows; ++r) _mm512_storeu_si512(sums + r * panel_width, acc[r]);
}

void tile_vnni(const int16_t* const* pixels, int rows, const Segment* segments, int64_t segment_count,
               const int16_t* panel, int32_t* sums) {
    if (rows == 12) return tile_vnni_rows<12>(pixels, segments, segment_count, panel, sums);
    for (int r = 0; r < rows; ++r)
        tile_vnni_rows<1>(pixels + r, segments, segment_count, panel, sums + r * panel_width);
}

#endif  // LOWWATT_X86

}  // namespace

std::vector<GemmKernel> available_kernels() {
    std::vector<GemmKernel> kernels{{"plain", 4, tile_plain, finish_plain}};
#ifdef LOWWATT_X86
    if (has_avx2()) kernels.push_back({"avx2", 6, tile_avx2, finish_avx2});
    if (has_avx512vnni()) kernels.push_back({"avx512vnni", 12, tile_vnni, finish_avx2});
#endif
    return kernels;
}

GemmKernel choose_kernel(const std::string& name) {
    const auto kernels = available_kernels();
    if (name == "auto") return kernels.back();
    for (const auto& kernel : kernels)
        if (name == kernel.name) return kernel;
    throw std::invalid_argument("this processor has no kernel " + name);
}

}  // namespace lowwatt
