// Any processor: pairs of int16 in plain C++, as the compiler can.
#include "kernel_body.hpp"

namespace lowwatt {
namespace {

struct PlainPairs {
    static constexpr int rows = 2, panels = 1, values = 2, offset = 0, lanes = panel_width;
    struct Vector {
        int32_t sum[lanes];
    };
    struct Weights {
        int16_t value[2 * lanes];
    };
    struct Pair {
        int16_t first, second;
    };
    static LOWWATT_INLINE Vector begin(const int32_t* starts) { return load_sums(starts); }
    static LOWWATT_INLINE Weights load(const char* panel) {
        Weights w;
        std::memcpy(&w, panel, sizeof w);
        return w;
    }
    static LOWWATT_INLINE Pair spread(const char* x) {
        Pair pair;
        std::memcpy(&pair, x, sizeof pair);
        return pair;
    }
    static LOWWATT_INLINE Vector multiply_add(Vector acc, Pair x, const Weights& w) {
        for (int c = 0; c < lanes; ++c) {
            const int32_t products = x.first * w.value[2 * c] + x.second * w.value[2 * c + 1];
            acc.sum[c] = int32_t(uint32_t(acc.sum[c]) + uint32_t(products));  // may wrap
        }
        return acc;
    }
    static LOWWATT_INLINE void round(const Vector* sums, const Epilogue& epilogue, int8_t* out) {
        for (int c = 0; c < lanes; ++c)
            out[c] = int8_t(std::clamp(sums->sum[c] >> (epilogue.shift - 1), epilogue.low, epilogue.high));
    }
    static LOWWATT_INLINE Vector sums(const Vector& acc) { return acc; }
    static LOWWATT_INLINE Vector load_sums(const int32_t* sums) {
        Vector v;
        std::memcpy(v.sum, sums, sizeof v.sum);
        return v;
    }
    static LOWWATT_INLINE Vector add(Vector x, const Vector& y) {
        for (int c = 0; c < lanes; ++c) x.sum[c] += y.sum[c];
        return x;
    }
    static LOWWATT_INLINE void store(int32_t* to, const Vector& sums) { std::memcpy(to, sums.sum, sizeof sums.sum); }
};

constexpr Kernel kernel = make_kernel<PlainPairs, PlainPairs>("plain");

}  // namespace

const Kernel* plain_kernel() { return &kernel; }

}  // namespace lowwatt
