// aarch64 with the dot product extension: four bytes at a time through sdot, which multiplies signed bytes.
#include "kernel.hpp"

#if defined(__ARM_FEATURE_DOTPROD)

#include "kernel_neon_lanes.hpp"

namespace lowwatt {
namespace {

struct NeonBytes : NeonSums {
    using Vector = int32x4_t;
    static constexpr int rows = 6, panels = 1, values = 4, offset = 0;
    static LOWWATT_INLINE Vector begin(const int32_t* starts) { return vld1q_s32(starts); }
    static LOWWATT_INLINE int8x16_t load(const char* panel) { return vld1q_s8(reinterpret_cast<const int8_t*>(panel)); }
    static LOWWATT_INLINE int8x16_t spread(const char* x) {
        int32_t word;
        std::memcpy(&word, x, sizeof word);
        return vreinterpretq_s8_s32(vdupq_n_s32(word));
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, int8x16_t x, int8x16_t w) { return vdotq_s32(acc, x, w); }
    static LOWWATT_INLINE int32x4_t sums(Vector acc) { return acc; }
};

constexpr Kernel kernel = make_kernel<NeonBytes, NeonPairs>("neon-dot");

}  // namespace

const Kernel* neon_dot_kernel() { return &kernel; }

}  // namespace lowwatt

#else

const lowwatt::Kernel* lowwatt::neon_dot_kernel() { return nullptr; }

#endif
