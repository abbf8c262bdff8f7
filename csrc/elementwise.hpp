// Operators without weights: tables, sums, products, pooling, joining, nearest resize. NHWC, int8.
#pragma once

#include <cstdint>
#include <vector>

#include "epilogue.hpp"

namespace lowwatt {

// out[i] = table[x[i] + 128]: any operator of one value. A null table copies.
void lookup(const int8_t* x, int64_t count, const int8_t* table, int8_t* out);

// Sum of inputs aligned to the coarsest fix point with two guard bits, floored: v = (4 * q) >> drop.
// Source: eltwise_fix.cpp of the vendor's CPU reference runner.
void add(const std::vector<const int8_t*>& inputs, const std::vector<int>& drops, int64_t count,
         const Epilogue& epilogue, int8_t* out);

// Product of two inputs of one shape.
void multiply(const int8_t* x, const int8_t* y, int64_t count, const Epilogue& epilogue, int8_t* out);

struct PoolShape {
    int64_t height, width, channels, out_h, out_w;
    int64_t kernel_h, kernel_w, stride_h, stride_w, top, left;
};

// Largest of the window's values; padding never wins.
void max_pool(const int8_t* x, int64_t batch, const PoolShape& shape, int8_t* out);

// factor * sum of the window's values, padding counts as 0.
void average_pool(const int8_t* x, int64_t batch, const PoolShape& shape, int32_t factor, const Epilogue& epilogue,
                  int8_t* out);

// Blocks of `inner` bytes from `x` to every `stride` bytes of `out`, through a table unless that is null.
void scatter(const int8_t* x, int64_t outer, int64_t inner, const int8_t* table, int64_t stride, int8_t* out);

// Nearest with whole factors: out[y][x] = in[y / scale_h][x / scale_w].
void repeat(const int8_t* x, int64_t rows, int64_t width, int64_t channels, int64_t scale_h, int64_t scale_w,
            int8_t* out);

}  // namespace lowwatt
