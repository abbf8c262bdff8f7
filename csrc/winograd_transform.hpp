// The transforms of the exact integer Winograd convolution F(4x4, 3x3); winograd.hpp has the whole method.
#pragma once

#include <cstdint>

#include "cpu.hpp"

namespace lowwatt {

constexpr int winograd_output = 4;                                   // pixels of a tile's side
constexpr int winograd_input = 6;                                    // input pixels of a tile's side
constexpr int winograd_positions = winograd_input * winograd_input;  // products of a tile and channel pair
constexpr int winograd_channels = 16;                                // that a transform takes at a time
constexpr int winograd_scale = 6;                                    // digits that the scale 576 = 9 * 2^6 takes

namespace {

// Vectors of GCC and Clang: arithmetic on all channels at once, in registers of whatever width there is.
typedef int8_t Bytes __attribute__((vector_size(winograd_channels)));
typedef int16_t Shorts __attribute__((vector_size(2 * winograd_channels)));
typedef uint32_t Words __attribute__((vector_size(2 * winograd_channels)));  // half of them; unsigned: they may wrap
typedef int32_t SignedWords __attribute__((vector_size(2 * winograd_channels)));

// Vectors in memory, where they need not be aligned. (memcpy would go through the stack in halves.)
template <typename Vector>
struct InMemory {
    typedef Vector Type __attribute__((aligned(1), may_alias));
};
template <typename Vector>
LOWWATT_INLINE void load(Vector& v, const void* from) {
    v = *static_cast<const typename InMemory<Vector>::Type*>(from);
}
template <typename Vector>
LOWWATT_INLINE void store(const Vector& v, void* to) {
    *static_cast<typename InMemory<Vector>::Type*>(to) = v;
}

// v = B^T v for one row or column.
LOWWATT_INLINE void transform_six(Shorts (&v)[winograd_input]) {
    const Shorts even = v[4] - 4 * v[2], odd = v[3] - 4 * v[1];
    const Shorts near = v[4] - v[2], far = 2 * (v[3] - v[1]);
    v[0] = 4 * (v[0] - v[2]) + near;
    v[5] = v[5] - v[3] - 2 * far;
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = near + far;
    v[4] = near - far;
}

// y = 24 A^T m for one row or column, each term scaled as its point was in the weights.
LOWWATT_INLINE void transform_four(const Words (&m)[winograd_input], Words (&y)[winograd_output]) {
    const Words sum1 = 4 * (m[1] + m[2]), difference1 = 4 * (m[1] - m[2]);
    const Words sum2 = m[3] + m[4], difference2 = 2 * (m[3] - m[4]);
    y[0] = 6 * m[0] - sum1 + sum2;
    y[1] = difference2 - difference1;
    y[2] = 4 * sum2 - sum1;
    y[3] = 4 * difference2 - difference1 + 24 * m[5];
}

// The tile's 36 values of 16 channels: |value| <= 100 * 128, so int16 holds them.
inline void transform_input(const int8_t* x, int64_t row_bytes, int64_t pixel_bytes, int16_t* out,
                            int64_t position_stride) {
    Shorts half[winograd_input][winograd_input];
    for (int i = 0; i < winograd_input; ++i) {
        for (int j = 0; j < winograd_input; ++j) {
            Bytes bytes;
            load(bytes, x + i * row_bytes + j * pixel_bytes);
            half[i][j] = __builtin_convertvector(bytes, Shorts);
        }
        transform_six(half[i]);
    }
    for (int j = 0; j < winograd_input; ++j) {
        Shorts column[winograd_input];
        for (int i = 0; i < winograd_input; ++i) column[i] = half[i][j];
        transform_six(column);
        for (int i = 0; i < winograd_input; ++i)
            store(column[i], out + (i * winograd_input + j) * position_stride);
    }
}

LOWWATT_INLINE void transform_half_output(const int32_t* products, int64_t position_stride, int32_t* sums) {
    constexpr uint32_t inverse_of_nine = 954437177;  // modulo 2^32
    Words half[winograd_output][winograd_input];
    for (int j = 0; j < winograd_input; ++j) {
        Words column[winograd_input], y[winograd_output];
        for (int i = 0; i < winograd_input; ++i)
            load(column[i], products + (i * winograd_input + j) * position_stride);
        transform_four(column, y);
        for (int i = 0; i < winograd_output; ++i) half[i][j] = y[i];
    }
    for (int i = 0; i < winograd_output; ++i) {
        Words y[winograd_output];
        transform_four(half[i], y);
        for (int j = 0; j < winograd_output; ++j, sums += winograd_channels) {
            const SignedWords sum = SignedWords(y[j] * inverse_of_nine) >> winograd_scale;
            store(sum, sums);
        }
    }
}

// 16 pixels of 16 channels: the exact sums, from products that wrapped.
inline void transform_output(const int32_t* products, int64_t position_stride, int32_t* sums) {
    for (int c = 0; c < winograd_channels; c += winograd_channels / 2)
        transform_half_output(products + c, position_stride, sums + c);
}

}  // namespace
}  // namespace lowwatt
