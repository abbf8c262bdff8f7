// The one rounding at the end of every accumulating operator.
//
// t = a / 2^shift, activation on the unrounded t, R(t) = floor(t + 0.5), saturation to int8.
// Source: the vendor's CPU reference runner (conv2d_fix.cpp, eltwise_fix.cpp, cpu_util.hpp).
// relu and relu6 are the bounds `low` and `high`: both bounds are integers and R is monotone, so that
// clipping after the rounding gives the same as clipping before it. Leaky relu scales the unrounded t.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu.hpp"

namespace lowwatt {

struct Epilogue {
    int shift = 0;       // digits that leave; at most max_shift, may be negative
    int low = -128;      // 0 for relu
    int high = 127;      // 6 * 2^fo for relu6
    bool leaky = false;  // t * 26/256 below zero, needs shift >= 1

    static constexpr int max_shift = 30;
    static constexpr int leaky_factor = 26;
    static constexpr int leaky_shift = 8;

    // Nothing but R(a / 2^shift) with shift > 0 and the bounds. Then a = 2 * sum + bias, as convolutions have it, needs
    // no doubling: R(a / 2^shift) = (sum + start(bias)) >> (shift - 1), and the sum may start from there.
    bool is_plain_shift() const { return shift > 0 && !leaky; }
    int32_t start(int32_t bias) const { return (bias + half()) >> 1; }

    // Any accumulator: 64 bits.
    LOWWATT_INLINE int8_t apply(int64_t a) const {
        if (leaky && a < 0) return round(a * leaky_factor, shift + leaky_shift);
        return round(a, shift);
    }

    // Many, with |a| + 2^(shift-1) < 2^31: 32 bits without leaky relu, which the compiler vectorizes.
    LOWWATT_INLINE void apply(const int32_t* a, int8_t* out, int64_t count) const {
        if (leaky) {
            for (int64_t i = 0; i < count; ++i) out[i] = apply(a[i]);
        } else if (shift > 0) {
            for (int64_t i = 0; i < count; ++i) out[i] = clip((a[i] + half()) >> shift);
        } else {
            for (int64_t i = 0; i < count; ++i) out[i] = clip(grow(a[i]));
        }
    }

private:
    int32_t half() const { return 1 << (shift - 1); }
    LOWWATT_INLINE int8_t round(int64_t a, int digits) const {
        if (digits > 0) a = (a + (int64_t(1) << (digits - 1))) >> digits;
        else a = grow(int32_t(std::clamp<int64_t>(a, -128, 128)));
        return int8_t(std::clamp<int64_t>(a, low, high));
    }
    // a * 2^-shift for shift <= 0; beyond eight digits every value but 0 saturates anyway.
    LOWWATT_INLINE int32_t grow(int32_t a) const { return std::clamp(a, -128, 128) * (1 << std::min(-shift, 8)); }
    LOWWATT_INLINE int8_t clip(int32_t v) const { return int8_t(std::clamp(v, low, high)); }
};

}  // namespace lowwatt
