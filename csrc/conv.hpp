// INT8 convolution with weights packed once: plain, grouped, dilated, transposed, linear; and depthwise.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "epilogue.hpp"
#include "kernel.hpp"
#include "shape.hpp"

namespace lowwatt {

// The pixels of the map for which a convolution is made; it runs on any map.
struct MapSize {
    int64_t height = 0, width = 0;
};

// One way to compute a convolution (direct.hpp, winograd.hpp).
class ConvolutionMethod {
public:
    virtual ~ConvolutionMethod() = default;
    virtual const char* name() const = 0;
    virtual void run(const int8_t* x, int64_t height, int64_t width, int8_t* out) const = 0;
};

class Convolution {
public:
    // bias: floor(2 * b * 2^shift_bias) of each channel. Throws std::range_error where 32 bits could overflow.
    // method: "direct", "winograd" (std::invalid_argument where that is not exact), or "auto", the quickest for
    // inputs of `size`. All give the same integers.
    Convolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                const Kernel& kernel, const std::string& method, MapSize size);

    const ConvShape& shape() const { return shape_; }
    const char* method() const { return method_->name(); }
    void run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const;

private:
    ConvShape shape_;
    std::unique_ptr<const ConvolutionMethod> method_;
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

// Throws std::range_error where the 32 bits of the doubled accumulator could overflow, whatever the input.
void check_range(const int8_t* weights, const int32_t* bias, int64_t channels, int64_t taps, int64_t tap_stride,
                 int64_t channel_stride, const Epilogue& epilogue);

}  // namespace lowwatt
