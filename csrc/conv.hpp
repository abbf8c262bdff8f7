// INT8 convolution (plain, grouped, dilated, transposed, linear) with weights packed once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "epilogue.hpp"
#include "gemm.hpp"

namespace lowwatt {

// Spatial numbers as (height, width), pads as (top, bottom, left, right), input as batch * height * width * channels.
struct ConvShape {
    int64_t out_channels, kernel_h, kernel_w, group_channels;  // weights OHWI
    int64_t groups = 1;
    int64_t stride_h = 1, stride_w = 1;
    int64_t dilation_h = 1, dilation_w = 1;
    int64_t insert_h = 1, insert_w = 1;  // distance of input pixels: the stride of a transposed convolution
    int64_t top = 0, bottom = 0, left = 0, right = 0;

    int64_t in_channels() const { return groups * group_channels; }
    int64_t padded_h(int64_t height) const { return (height - 1) * insert_h + 1 + top + bottom; }
    int64_t padded_w(int64_t width) const { return (width - 1) * insert_w + 1 + left + right; }
    int64_t out_h(int64_t height) const { return (padded_h(height) - (kernel_h - 1) * dilation_h - 1) / stride_h + 1; }
    int64_t out_w(int64_t width) const { return (padded_w(width) - (kernel_w - 1) * dilation_w - 1) / stride_w + 1; }
};

// The input as int16, padded, zeros inserted, each group's channels filled up to an even number.
struct PaddedInput {
    std::unique_ptr<int16_t[]> values;
    int64_t height, width, pixel;  // int16 values of one pixel

    PaddedInput(const int8_t* x, int64_t in_h, int64_t in_w, const ConvShape& shape, bool even_groups);
};

class Convolution {
public:
    // bias: floor(2 * b * 2^shift_bias) of each channel. Throws std::range_error where 32 bits could overflow.
    Convolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                const GemmKernel& kernel);

    const ConvShape& shape() const { return shape_; }
    void run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const;

private:
    struct Aligned {
        void operator()(int16_t* p) const;
    };

    void pack(const int8_t* weights);
    void run_image(const int8_t* x, int64_t height, int64_t width, int8_t* out) const;
    void run_block(const PaddedInput& input, const std::vector<Segment>& runs, int64_t first, int64_t count,
                   int64_t out_w, int8_t* out) const;
    void run_panel(const int16_t* const* bases, const std::vector<Segment>& runs, int64_t count, int64_t panel,
                   int64_t channels, int8_t* out) const;
    std::vector<Segment> segments(const PaddedInput& input) const;

    ConvShape shape_;
    Epilogue epilogue_;
    GemmKernel kernel_;
    std::vector<int32_t> bias_;
    std::unique_ptr<int16_t[], Aligned> packed_;
    int64_t pair_count_;    // of one panel
    int64_t group_panels_;  // panels of one group
};

// Depthwise: weights [mult, kh, kw, C], output channel c * mult + m; `shape.group_channels` is 1.
class DepthwiseConvolution {
public:
    DepthwiseConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue);

    const ConvShape& shape() const { return shape_; }
    void run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const;

private:
    ConvShape shape_;
    Epilogue epilogue_;
    std::vector<int16_t> weights_;
    std::vector<int32_t> bias_;  // [mult][C]
};

}  // namespace lowwatt
