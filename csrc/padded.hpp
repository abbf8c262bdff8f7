// A feature map with its padding, as int8 or widened to int16.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "shape.hpp"

namespace lowwatt {

// Padded, with zeros inserted between the pixels of a transposed convolution. Kernels may read up to `slack` values
// behind the end. Where nothing is to be done to it and `may_borrow`, it is the caller's own memory.
template <typename T>
class PaddedInput {
public:
    static constexpr int64_t slack = 16;

    PaddedInput(const int8_t* x, int64_t in_h, int64_t in_w, const ConvShape& shape, bool may_borrow = false)
        : width(shape.padded_w(in_w)), pixel(shape.in_channels()) {
        const bool padded = shape.top || shape.bottom || shape.left || shape.right;
        const bool inserted = shape.insert_h > 1 || shape.insert_w > 1;
        if constexpr (sizeof(T) == 1) {
            if (may_borrow && !padded && !inserted) {
                values_ = x;
                return;
            }
        }
        const int64_t height = shape.padded_h(in_h), size = height * width * pixel;
        owned_.reset(new T[size_t(size + slack)]);
        values_ = owned_.get();
        if (inserted) std::memset(owned_.get(), 0, sizeof(T) * size_t(size));
        else clear_border(in_h, in_w, height, shape);
        std::memset(owned_.get() + size, 0, sizeof(T) * size_t(slack));
        for (int64_t row = 0; row < in_h; ++row, x += in_w * pixel)
            fill_row(x, in_w, at(shape.top + row * shape.insert_h, shape.left), shape.insert_w);
    }

    const T* values() const { return values_; }

    int64_t width, pixel;  // pixels of a row, values of a pixel

private:
    T* at(int64_t y, int64_t x) { return owned_.get() + (y * width + x) * pixel; }

    void clear_border(int64_t in_h, int64_t in_w, int64_t height, const ConvShape& shape) {
        const auto clear = [](T* from, T* to) { std::memset(from, 0, sizeof(T) * size_t(to - from)); };
        clear(at(0, 0), at(shape.top, 0));
        for (int64_t y = shape.top; y < shape.top + in_h; ++y) {
            clear(at(y, 0), at(y, shape.left));
            clear(at(y, shape.left + in_w), at(y + 1, 0));
        }
        clear(at(shape.top + in_h, 0), at(height, 0));
    }

    void fill_row(const int8_t* x, int64_t in_w, T* to, int64_t insert) const {
        if (insert == 1) return copy(x, in_w * pixel, to);
        for (int64_t column = 0; column < in_w; ++column, x += pixel, to += insert * pixel) copy(x, pixel, to);
    }

    static void copy(const int8_t* x, int64_t count, T* to) {
        if constexpr (sizeof(T) == 1) std::memcpy(to, x, size_t(count));
        else
            for (int64_t i = 0; i < count; ++i) to[i] = x[i];
    }

    std::unique_ptr<T[]> owned_;
    const T* values_;
};

}  // namespace lowwatt
