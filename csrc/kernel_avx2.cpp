// AVX2: pairs of int16 through vpmaddwd. vpmaddubsw, twice as quick, would saturate pairs of products.
#include "kernel_body.hpp"

#ifdef __AVX2__

#include <immintrin.h>

namespace lowwatt {
namespace {

struct Avx2Pairs {
    using Vector = __m256i;
    static constexpr int rows = 6, panels = 1, values = 2, offset = 0, lanes = 8;
    static LOWWATT_INLINE Vector begin(const int32_t* starts) { return load_sums(starts); }
    static LOWWATT_INLINE Vector load(const char* panel) {
        return _mm256_load_si256(reinterpret_cast<const Vector*>(panel));
    }
    static LOWWATT_INLINE Vector spread(const char* x) {
        int32_t word;
        std::memcpy(&word, x, sizeof word);
        return _mm256_set1_epi32(word);
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, Vector x, Vector w) {
        return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
    }
    static LOWWATT_INLINE Vector sums(Vector acc) { return acc; }
    static LOWWATT_INLINE Vector load_sums(const int32_t* sums) {
        return _mm256_loadu_si256(reinterpret_cast<const Vector*>(sums));
    }
    static LOWWATT_INLINE void store(int32_t* to, Vector sums) {
        _mm256_storeu_si256(reinterpret_cast<Vector*>(to), sums);
    }
    static LOWWATT_INLINE Vector add(Vector x, Vector y) { return _mm256_add_epi32(x, y); }
    static LOWWATT_INLINE void round(const Vector* sums, const Epilogue& epilogue, int8_t* out) {
        const __m128i digits = _mm_cvtsi32_si128(epilogue.shift - 1);
        const Vector words = _mm256_packs_epi32(_mm256_sra_epi32(sums[0], digits), _mm256_sra_epi32(sums[1], digits));
        const Vector ordered = _mm256_permute4x64_epi64(words, 0b11011000);  // packing works in halves
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
        const __m128i bounded = _mm_min_epi8(_mm_max_epi8(bytes, _mm_set1_epi8(char(epilogue.low))),
                                             _mm_set1_epi8(char(epilogue.high)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bounded);
    }
};

constexpr Kernel kernel = make_kernel<Avx2Pairs, Avx2Pairs>("avx2");

}  // namespace

const Kernel* avx2_kernel() { return &kernel; }

}  // namespace lowwatt

#else

const lowwatt::Kernel* lowwatt::avx2_kernel() { return nullptr; }

#endif
