// What both NEON kernels need: pairs of int16, and the end of a row.
#pragma once

#include <arm_neon.h>

#include "kernel_body.hpp"

namespace lowwatt {
namespace {

// Sums, and how a row of them ends, of either kernel.
struct NeonSums {
    static constexpr int lanes = 4;
    static LOWWATT_INLINE int32x4_t load_sums(const int32_t* sums) { return vld1q_s32(sums); }
    static LOWWATT_INLINE void store(int32_t* to, int32x4_t sums) { vst1q_s32(to, sums); }
    static LOWWATT_INLINE int16x4_t shifted(int32x4_t sums, const int32_t* bias, const Epilogue& epilogue) {
        const int32x4_t added = vaddq_s32(vld1q_s32(bias), vdupq_n_s32(epilogue.half()));
        return vqmovn_s32(vshlq_s32(vaddq_s32(vshlq_n_s32(sums, 1), added), vdupq_n_s32(-epilogue.shift)));
    }
    static LOWWATT_INLINE void round(const int32x4_t* sums, const int32_t* bias, const Epilogue& epilogue, int8_t* out) {
        for (int v = 0; v < panel_width / lanes; v += 2) {
            const int16x8_t words = vcombine_s16(shifted(sums[v], bias + v * lanes, epilogue),
                                                 shifted(sums[v + 1], bias + (v + 1) * lanes, epilogue));
            const int8x8_t above = vmax_s8(vqmovn_s16(words), vdup_n_s8(int8_t(epilogue.low)));
            vst1_s8(out + v * lanes, vmin_s8(above, vdup_n_s8(int8_t(epilogue.high))));
        }
    }
};

struct NeonPairs : NeonSums {
    static constexpr int rows = 2, panels = 1, values = 2, offset = 0;
    struct Vector {
        int32x4_t low, high;  // sums of two channels each, the two values of a pair apart
    };
    static LOWWATT_INLINE Vector zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static LOWWATT_INLINE int16x8_t load(const char* panel) {
        return vld1q_s16(reinterpret_cast<const int16_t*>(panel));
    }
    static LOWWATT_INLINE int16x8_t spread(const char* x) {
        int32_t word;
        std::memcpy(&word, x, sizeof word);
        return vreinterpretq_s16_s32(vdupq_n_s32(word));
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, int16x8_t x, int16x8_t w) {
        return {vmlal_s16(acc.low, vget_low_s16(x), vget_low_s16(w)), vmlal_high_s16(acc.high, x, w)};
    }
    static LOWWATT_INLINE int32x4_t sums(const Vector& acc) { return vpaddq_s32(acc.low, acc.high); }
};

}  // namespace
}  // namespace lowwatt
