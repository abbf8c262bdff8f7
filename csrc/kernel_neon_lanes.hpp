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
    static LOWWATT_INLINE int32x4_t add(int32x4_t x, int32x4_t y) { return vaddq_s32(x, y); }
    static LOWWATT_INLINE void round(const int32x4_t* sums, const Epilogue& epilogue, int8_t* out) {
        const int32x4_t digits = vdupq_n_s32(1 - epilogue.shift);  // left, so negative
        for (int v = 0; v < panel_width / lanes; v += 2) {
            const int16x8_t words =
                vcombine_s16(vqmovn_s32(vshlq_s32(sums[v], digits)), vqmovn_s32(vshlq_s32(sums[v + 1], digits)));
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
    static LOWWATT_INLINE Vector begin(const int32_t* starts) {
        const int32x4_t all = vld1q_s32(starts), none = vdupq_n_s32(0);
        return {vzip1q_s32(all, none), vzip2q_s32(all, none)};
    }
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
