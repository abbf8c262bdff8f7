#include "elementwise.hpp"

#include <cstring>

namespace lowwatt {
namespace {

constexpr int64_t chunk = 1024;

LOWWATT_INLINE void add_body(const std::vector<const int8_t*>& inputs, const std::vector<int>& drops, int64_t count,
                             const Epilogue& epilogue, int8_t* out) {
    int32_t sums[chunk];
    for (int64_t start = 0; start < count; start += chunk) {
        const int64_t size = std::min(chunk, count - start);
        std::memset(sums, 0, sizeof sums);
        for (size_t k = 0; k < inputs.size(); ++k) {
            const int8_t* x = inputs[k] + start;
            const int drop = std::min(drops[k], 31);
            for (int64_t i = 0; i < size; ++i) sums[i] += (int32_t(x[i]) * 4) >> drop;
        }
        epilogue.apply(sums, out + start, size);
    }
}

LOWWATT_INLINE void multiply_body(const int8_t* x, const int8_t* y, int64_t count, const Epilogue& epilogue,
                                  int8_t* out) {
    int32_t products[chunk];
    for (int64_t start = 0; start < count; start += chunk) {
        const int64_t size = std::min(chunk, count - start);
        for (int64_t i = 0; i < size; ++i) products[i] = int32_t(x[start + i]) * y[start + i];
        epilogue.apply(products, out + start, size);
    }
}

// The window of one output pixel, cut to the image: rows [y0, y1), columns [x0, x1).
struct Window {
    int64_t y0, y1, x0, x1;

    Window(const PoolShape& s, int64_t pixel) {
        const int64_t y = pixel / s.out_w * s.stride_h - s.top, x = pixel % s.out_w * s.stride_w - s.left;
        y0 = std::max<int64_t>(y, 0), y1 = std::min(y + s.kernel_h, s.height);
        x0 = std::max<int64_t>(x, 0), x1 = std::min(x + s.kernel_w, s.width);
    }
};

LOWWATT_INLINE void max_pool_body(const int8_t* x, const PoolShape& s, int8_t* out) {
    for (int64_t pixel = 0; pixel < s.out_h * s.out_w; ++pixel, out += s.channels) {
        std::memset(out, -128, size_t(s.channels));
        const Window window(s, pixel);
        for (int64_t y = window.y0; y < window.y1; ++y) {
            for (int64_t column = window.x0; column < window.x1; ++column) {
                const int8_t* at = x + (y * s.width + column) * s.channels;
                for (int64_t c = 0; c < s.channels; ++c) out[c] = std::max(out[c], at[c]);
            }
        }
    }
}

LOWWATT_INLINE void average_pool_body(const int8_t* x, const PoolShape& s, int32_t factor, const Epilogue& epilogue,
                                      int8_t* out) {
    std::vector<int32_t> sums(static_cast<size_t>(s.channels));
    for (int64_t pixel = 0; pixel < s.out_h * s.out_w; ++pixel, out += s.channels) {
        std::fill(sums.begin(), sums.end(), 0);
        const Window window(s, pixel);
        for (int64_t y = window.y0; y < window.y1; ++y) {
            for (int64_t column = window.x0; column < window.x1; ++column) {
                const int8_t* at = x + (y * s.width + column) * s.channels;
                for (int64_t c = 0; c < s.channels; ++c) sums[size_t(c)] += factor * at[c];
            }
        }
        epilogue.apply(sums.data(), out, s.channels);
    }
}

#ifdef LOWWATT_X86
LOWWATT_AVX2 void add_avx2(const std::vector<const int8_t*>& inputs, const std::vector<int>& drops, int64_t count,
                           const Epilogue& epilogue, int8_t* out) {
    add_body(inputs, drops, count, epilogue, out);
}
LOWWATT_AVX2 void multiply_avx2(const int8_t* x, const int8_t* y, int64_t count, const Epilogue& epilogue,
                                int8_t* out) {
    multiply_body(x, y, count, epilogue, out);
}
LOWWATT_AVX2 void max_pool_avx2(const int8_t* x, const PoolShape& s, int8_t* out) { max_pool_body(x, s, out); }
#endif

}  // namespace

void lookup(const int8_t* x, int64_t count, const int8_t* table, int8_t* out) {
    if (table == nullptr) {
        std::memcpy(out, x, size_t(count));
        return;
    }
    for (int64_t i = 0; i < count; ++i) out[i] = table[x[i] + 128];
}

void add(const std::vector<const int8_t*>& inputs, const std::vector<int>& drops, int64_t count,
         const Epilogue& epilogue, int8_t* out) {
#ifdef LOWWATT_X86
    if (has_avx2()) return add_avx2(inputs, drops, count, epilogue, out);
#endif
    add_body(inputs, drops, count, epilogue, out);
}

void multiply(const int8_t* x, const int8_t* y, int64_t count, const Epilogue& epilogue, int8_t* out) {
#ifdef LOWWATT_X86
    if (has_avx2()) return multiply_avx2(x, y, count, epilogue, out);
#endif
    multiply_body(x, y, count, epilogue, out);
}

void max_pool(const int8_t* x, int64_t batch, const PoolShape& s, int8_t* out) {
    for (int64_t n = 0; n < batch; ++n, x += s.height * s.width * s.channels, out += s.out_h * s.out_w * s.channels) {
#ifdef LOWWATT_X86
        if (has_avx2()) {
            max_pool_avx2(x, s, out);
            continue;
        }
#endif
        max_pool_body(x, s, out);
    }
}

void average_pool(const int8_t* x, int64_t batch, const PoolShape& s, int32_t factor, const Epilogue& epilogue,
                  int8_t* out) {
    for (int64_t n = 0; n < batch; ++n)
        average_pool_body(x + n * s.height * s.width * s.channels, s, factor, epilogue,
                          out + n * s.out_h * s.out_w * s.channels);
}

void scatter(const int8_t* x, int64_t outer, int64_t inner, const int8_t* table, int64_t stride, int8_t* out) {
    for (int64_t i = 0; i < outer; ++i, x += inner, out += stride) lookup(x, inner, table, out);
}

void repeat(const int8_t* x, int64_t rows, int64_t width, int64_t channels, int64_t scale_h, int64_t scale_w,
            int8_t* out) {
    const int64_t row_bytes = width * scale_w * channels;
    for (int64_t row = 0; row < rows; ++row) {
        int8_t* first = out;
        for (int64_t column = 0; column < width; ++column, x += channels)
            for (int64_t k = 0; k < scale_w; ++k, out += channels) std::memcpy(out, x, size_t(channels));
        for (int64_t k = 1; k < scale_h; ++k, out += row_bytes) std::memcpy(out, first, size_t(row_bytes));
    }
}

}  // namespace lowwatt
