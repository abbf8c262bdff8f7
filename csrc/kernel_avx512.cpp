// AVX512-VNNI: four bytes at a time through vpdpbusd, pairs of int16 through vpdpwssd; both add up without saturating.
#include "kernel_body.hpp"

#ifdef __AVX512VNNI__

#include <immintrin.h>

namespace lowwatt {
namespace {

struct Avx512Pairs {
    using Vector = __m512i;
    static constexpr int rows = 8, panels = 3, values = 2, offset = 0, lanes = 16;
    static LOWWATT_INLINE Vector begin(const int32_t* starts) { return load_sums(starts); }
    static LOWWATT_INLINE Vector load(const char* panel) { return _mm512_load_si512(panel); }
    static LOWWATT_INLINE Vector spread(const char* x) {
        int32_t word;
        std::memcpy(&word, x, sizeof word);
        return _mm512_set1_epi32(word);
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, Vector x, Vector w) {
        return _mm512_dpwssd_epi32(acc, x, w);
    }
    static LOWWATT_INLINE Vector sums(Vector acc) { return acc; }
    static LOWWATT_INLINE Vector load_sums(const int32_t* sums) { return _mm512_loadu_si512(sums); }
    static LOWWATT_INLINE void store(int32_t* to, Vector sums) { _mm512_storeu_si512(to, sums); }
    static LOWWATT_INLINE Vector add(Vector x, Vector y) { return _mm512_add_epi32(x, y); }
    static LOWWATT_INLINE void round(const Vector* sums, const Epilogue& epilogue, int8_t* out) {
        const __m128i digits = _mm_cvtsi32_si128(epilogue.shift - 1);
        const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_sra_epi32(*sums, digits));
        const __m128i bounded = _mm_min_epi8(_mm_max_epi8(bytes, _mm_set1_epi8(char(epilogue.low))),
                                             _mm_set1_epi8(char(epilogue.high)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bounded);
    }
};

// vpdpbusd multiplies unsigned by signed bytes: flipping the sign bit makes x + 128 of x.
struct Avx512Bytes : Avx512Pairs {
    static constexpr int values = 4, offset = 128;
    static LOWWATT_INLINE Vector spread(const char* x) {
        return _mm512_xor_si512(Avx512Pairs::spread(x), _mm512_set1_epi8(-128));
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, Vector x, Vector w) {
        return _mm512_dpbusd_epi32(acc, x, w);
    }
};

constexpr Kernel kernel = make_kernel<Avx512Bytes, Avx512Pairs>("avx512vnni");

}  // namespace

const Kernel* avx512vnni_kernel() { return &kernel; }

}  // namespace lowwatt

#else

const lowwatt::Kernel* lowwatt::avx512vnni_kernel() { return nullptr; }

#endif
