#include "conv.hpp"

#include <cstdlib>
#include <stdexcept>

#include "direct.hpp"
#include "winograd.hpp"

namespace lowwatt {
namespace {

bool use_winograd(const std::string& method, const int8_t* weights, const ConvShape& shape, const Kernel& kernel,
                  MapSize size) {
    if (method == "direct") return false;
    const bool exact = WinogradConvolution::is_exact(weights, shape);
    if (method == "auto") return exact && WinogradConvolution::pays(shape, kernel, size);
    if (method != "winograd") throw std::invalid_argument("there is no method " + method);
    if (!exact) throw std::invalid_argument("this convolution is not exact by Winograd's method");
    return true;
}

}  // namespace

void check_range(const int8_t* weights, const int32_t* bias, int64_t channels, int64_t taps, int64_t tap_stride,
                 int64_t channel_stride, const Epilogue& epilogue) {
    const int64_t half = epilogue.shift > 0 ? int64_t(1) << (epilogue.shift - 1) : 0;
    for (int64_t c = 0; c < channels; ++c) {
        int64_t sum = 0;
        for (int64_t t = 0; t < taps; ++t) sum += std::abs(int64_t(weights[c * channel_stride + t * tap_stride]));
        if (2 * 128 * sum + std::abs(int64_t(bias[c])) + half >= int64_t(1) << 31)
            throw std::range_error("the accumulator could exceed 32 bits");
    }
}

Convolution::Convolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                         const Kernel& kernel, const std::string& method, MapSize size)
    : shape_(shape) {
    const int64_t taps = shape.kernel_h * shape.kernel_w * shape.group_channels;
    check_range(weights, bias, shape.out_channels, taps, 1, taps, epilogue);
    if (use_winograd(method, weights, shape, kernel, size))
        method_ = std::make_unique<WinogradConvolution>(weights, bias, shape, epilogue, kernel);
    else method_ = std::make_unique<DirectConvolution>(weights, bias, shape, epilogue, kernel);
}

void Convolution::run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const {
    const int64_t in_size = height * width * shape_.in_channels();
    const int64_t out_size = shape_.out_h(height) * shape_.out_w(width) * shape_.out_channels;
    for (int64_t n = 0; n < batch; ++n) method_->run(x + n * in_size, height, width, out + n * out_size);
}

}  // namespace lowwatt
