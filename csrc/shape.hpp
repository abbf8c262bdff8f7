// The numbers of a convolution.
#pragma once

#include <cstdint>

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

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace lowwatt
