#include <vector>

#include "conv.hpp"
#include "cpu.hpp"
#include "padded.hpp"

namespace lowwatt {

DepthwiseConvolution::DepthwiseConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape,
                                           const Epilogue& epilogue)
    : shape_(shape), epilogue_(epilogue), bias_(size_t(shape.out_channels)) {
    const int64_t channels = shape.groups, mult = shape.out_channels / channels;
    const int64_t positions = shape.kernel_h * shape.kernel_w;
    weights_.assign(weights, weights + mult * positions * channels);
    for (int64_t m = 0; m < mult; ++m) {
        for (int64_t c = 0; c < channels; ++c) bias_[size_t(m * channels + c)] = bias[c * mult + m];
        check_range(weights + m * positions * channels, bias_.data() + m * channels, channels, positions, channels, 1,
                    epilogue);
    }
}

namespace {

// sums[c] = bias[c] + 2 * sum over the window of x[c] * w[c]
LOWWATT_INLINE void window_body(const int16_t* x, const int16_t* w, const ConvShape& shape, int64_t row_stride,
                                const int32_t* bias, int32_t* sums) {
    const int64_t channels = shape.groups;
    for (int64_t c = 0; c < channels; ++c) sums[c] = bias[c];
    for (int64_t ky = 0; ky < shape.kernel_h; ++ky) {
        for (int64_t kx = 0; kx < shape.kernel_w; ++kx, w += channels) {
            const int16_t* at = x + ky * shape.dilation_h * row_stride + kx * shape.dilation_w * channels;
            for (int64_t c = 0; c < channels; ++c) sums[c] += 2 * int32_t(at[c]) * w[c];
        }
    }
}

LOWWATT_INLINE void depthwise_body(const PaddedInput<int16_t>& input, const int16_t* weights, const int32_t* bias,
                                   const ConvShape& shape, const Epilogue& epilogue, int64_t out_h, int64_t out_w,
                                   int8_t* out) {
    const int64_t channels = shape.groups, mult = shape.out_channels / channels;
    const int64_t plane = shape.kernel_h * shape.kernel_w * channels;
    std::vector<int32_t> sums(static_cast<size_t>(channels));
    std::vector<int8_t> q(static_cast<size_t>(channels));
    for (int64_t i = 0; i < out_h * out_w; ++i, out += shape.out_channels) {
        const int64_t y = i / out_w * shape.stride_h, x = i % out_w * shape.stride_w;
        const int16_t* at = input.values() + (y * input.width + x) * channels;
        for (int64_t m = 0; m < mult; ++m) {
            window_body(at, weights + m * plane, shape, input.width * channels, bias + m * channels, sums.data());
            epilogue.apply(sums.data(), mult == 1 ? out : q.data(), channels);
            if (mult > 1)
                for (int64_t c = 0; c < channels; ++c) out[c * mult + m] = q[size_t(c)];
        }
    }
}

#ifdef LOWWATT_X86
LOWWATT_AVX2 void depthwise_avx2(const PaddedInput<int16_t>& input, const int16_t* weights, const int32_t* bias,
                                 const ConvShape& shape, const Epilogue& epilogue, int64_t out_h, int64_t out_w,
                                 int8_t* out) {
    depthwise_body(input, weights, bias, shape, epilogue, out_h, out_w, out);
}
#endif

}  // namespace

void DepthwiseConvolution::run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const {
    const int64_t out_h = shape_.out_h(height), out_w = shape_.out_w(width);
    for (int64_t n = 0; n < batch; ++n) {
        const PaddedInput<int16_t> input(x + n * height * width * shape_.groups, height, width, shape_);
        int8_t* to = out + n * out_h * out_w * shape_.out_channels;
#ifdef LOWWATT_X86
        if (has_avx2()) {
            depthwise_avx2(input, weights_.data(), bias_.data(), shape_, epilogue_, out_h, out_w, to);
            continue;
        }
#endif
        depthwise_body(input, weights_.data(), bias_.data(), shape_, epilogue_, out_h, out_w, to);
    }
}

}  // namespace lowwatt
