#include "conv.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

namespace lowwatt {
namespace {

constexpr int64_t block_pixels = 96;  // output pixels for which one panel of weights stays in the cache

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The accumulator is 32 bits and doubled: refuse weights that could overflow it, whatever the input.
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

}  // namespace

PaddedInput::PaddedInput(const int8_t* x, int64_t in_h, int64_t in_w, const ConvShape& shape, bool even_groups)
    : height(shape.padded_h(in_h)), width(shape.padded_w(in_w)) {
    const int64_t group = shape.group_channels, filled = even_groups ? round_up(group, 2) : group;
    pixel = shape.groups * filled;
    values.reset(new int16_t[size_t(height * width * pixel)]);
    const bool dense = shape.insert_h == 1 && shape.insert_w == 1 && filled == group;
    if (!dense || shape.top || shape.bottom || shape.left || shape.right)
        std::memset(values.get(), 0, sizeof(int16_t) * size_t(height * width * pixel));
    for (int64_t row = 0; row < in_h; ++row) {
        int16_t* to = values.get() + ((shape.top + row * shape.insert_h) * width + shape.left) * pixel;
        const int8_t* from = x + row * in_w * shape.in_channels();
        if (dense) {
            for (int64_t i = 0; i < in_w * pixel; ++i) to[i] = from[i];
            continue;
        }
        for (int64_t column = 0; column < in_w; ++column, to += shape.insert_w * pixel)
            for (int64_t g = 0; g < shape.groups; ++g, from += group)
                for (int64_t c = 0; c < group; ++c) to[g * filled + c] = from[c];
    }
}

void Convolution::Aligned::operator()(int16_t* p) const { ::operator delete[](p, std::align_val_t(64)); }

Convolution::Convolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape, const Epilogue& epilogue,
                         const GemmKernel& kernel)
    : shape_(shape), epilogue_(epilogue), kernel_(kernel) {
    const int64_t taps = shape.kernel_h * shape.kernel_w * shape.group_channels;
    check_range(weights, bias, shape.out_channels, taps, 1, taps, epilogue);
    const int64_t group_out = shape.out_channels / shape.groups;
    group_panels_ = round_up(group_out, panel_width) / panel_width;
    pair_count_ = shape.kernel_h * shape.kernel_w * round_up(shape.group_channels, 2) / 2;
    bias_.assign(size_t(shape.groups * group_panels_ * panel_width), 0);
    for (int64_t o = 0; o < shape.out_channels; ++o)
        bias_[size_t(o / group_out * group_panels_ * panel_width + o % group_out)] = bias[o];
    pack(weights);
}

// [group][panel][kh][kw][pair][channel][2]: the order in which a tile reads them.
void Convolution::pack(const int8_t* weights) {
    const int64_t panel_size = pair_count_ * 2 * panel_width;
    const size_t size = size_t(shape_.groups * group_panels_ * panel_size);
    packed_.reset(static_cast<int16_t*>(::operator new[](size * sizeof(int16_t), std::align_val_t(64))));
    std::memset(packed_.get(), 0, size * sizeof(int16_t));
    const int64_t group_out = shape_.out_channels / shape_.groups, channels = shape_.group_channels;
    const int64_t positions = shape_.kernel_h * shape_.kernel_w, pairs = round_up(channels, 2) / 2;
    for (int64_t o = 0; o < shape_.out_channels; ++o) {
        const int64_t within = o % group_out;
        int16_t* panel = packed_.get() + (o / group_out * group_panels_ + within / panel_width) * panel_size;
        for (int64_t p = 0; p < positions; ++p)
            for (int64_t c = 0; c < channels; ++c)
                panel[((p * pairs + c / 2) * panel_width + within % panel_width) * 2 + c % 2] =
                    weights[(o * positions + p) * channels + c];
    }
}

// Where a pixel's inputs lie. Without dilation and groups a whole kernel row is one run.
std::vector<Segment> Convolution::segments(const PaddedInput& input) const {
    const int64_t pairs = round_up(shape_.group_channels, 2) / 2, row = input.width * input.pixel;
    std::vector<Segment> found;
    for (int64_t y = 0; y < shape_.kernel_h; ++y) {
        const int64_t start = y * shape_.dilation_h * row;
        if (shape_.dilation_w == 1 && shape_.groups == 1) {
            found.push_back({start, shape_.kernel_w * pairs});
            continue;
        }
        for (int64_t x = 0; x < shape_.kernel_w; ++x)
            found.push_back({start + x * shape_.dilation_w * input.pixel, pairs});
    }
    return found;
}

void Convolution::run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const {
    const int64_t in_size = height * width * shape_.in_channels();
    const int64_t out_size = shape_.out_h(height) * shape_.out_w(width) * shape_.out_channels;
    for (int64_t n = 0; n < batch; ++n) run_image(x + n * in_size, height, width, out + n * out_size);
}

void Convolution::run_image(const int8_t* x, int64_t height, int64_t width, int8_t* out) const {
    const PaddedInput input(x, height, width, shape_, true);
    const auto runs = segments(input);
    const int64_t out_w = shape_.out_w(width), pixels = shape_.out_h(height) * out_w;
    for (int64_t first = 0; first < pixels; first += block_pixels)
        run_block(input, runs, first, std::min(block_pixels, pixels - first), out_w, out);
}

void Convolution::run_block(const PaddedInput& input, const std::vector<Segment>& runs, int64_t first, int64_t count,
                            int64_t out_w, int8_t* out) const {
    const int16_t* bases[block_pixels];
    for (int64_t i = 0; i < count; ++i) {
        const int64_t y = (first + i) / out_w * shape_.stride_h, x = (first + i) % out_w * shape_.stride_w;
        bases[i] = input.values.get() + (y * input.width + x) * input.pixel;
    }
    const int64_t group_out = shape_.out_channels / shape_.groups, group_pixel = input.pixel / shape_.groups;
    for (int64_t g = 0; g < shape_.groups; ++g) {
        for (int64_t p = 0; p < group_panels_; ++p) {
            const int64_t channel = g * group_out + p * panel_width, panel = g * group_panels_ + p;
            run_panel(bases, runs, count, panel, std::min<int64_t>(panel_width, group_out - p * panel_width),
                      out + first * shape_.out_channels + channel);
        }
        for (int64_t i = 0; i < count; ++i) bases[i] += group_pixel;
    }
}

void Convolution::run_panel(const int16_t* const* bases, const std::vector<Segment>& runs, int64_t count,
                            int64_t panel, int64_t channels, int8_t* out) const {
    int32_t sums[max_tile_rows * panel_width];
    const int16_t* weights = packed_.get() + panel * pair_count_ * 2 * panel_width;
    for (int64_t i = 0; i < count; i += kernel_.rows) {
        const int rows = int(std::min<int64_t>(kernel_.rows, count - i));
        kernel_.run(bases + i, rows, runs.data(), int64_t(runs.size()), weights, sums);
        kernel_.finish(sums, rows, bias_.data() + panel * panel_width, epilogue_, int(channels),
                       out + i * shape_.out_channels, shape_.out_channels);
    }
}

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

LOWWATT_INLINE void depthwise_body(const PaddedInput& input, const int16_t* weights, const int32_t* bias,
                                   const ConvShape& shape, const Epilogue& epilogue, int64_t out_h, int64_t out_w,
                                   int8_t* out) {
    const int64_t channels = shape.groups, mult = shape.out_channels / channels;
    const int64_t plane = shape.kernel_h * shape.kernel_w * channels;
    std::vector<int32_t> sums(static_cast<size_t>(channels));
    std::vector<int8_t> q(static_cast<size_t>(channels));
    for (int64_t i = 0; i < out_h * out_w; ++i, out += shape.out_channels) {
        const int64_t y = i / out_w * shape.stride_h, x = i % out_w * shape.stride_w;
        const int16_t* at = input.values.get() + (y * input.width + x) * channels;
        for (int64_t m = 0; m < mult; ++m) {
            window_body(at, weights + m * plane, shape, input.width * channels, bias + m * channels, sums.data());
            epilogue.apply(sums.data(), mult == 1 ? out : q.data(), channels);
            if (mult > 1)
                for (int64_t c = 0; c < channels; ++c) out[c * mult + m] = q[size_t(c)];
        }
    }
}

#ifdef LOWWATT_X86
LOWWATT_AVX2 void depthwise_avx2(const PaddedInput& input, const int16_t* weights, const int32_t* bias,
                                 const ConvShape& shape, const Epilogue& epilogue, int64_t out_h, int64_t out_w,
                                 int8_t* out) {
    depthwise_body(input, weights, bias, shape, epilogue, out_h, out_w, out);
}
#endif

}  // namespace

void DepthwiseConvolution::run(const int8_t* x, int64_t batch, int64_t height, int64_t width, int8_t* out) const {
    const int64_t out_h = shape_.out_h(height), out_w = shape_.out_w(width);
    for (int64_t n = 0; n < batch; ++n) {
        const PaddedInput input(x + n * height * width * shape_.groups, height, width, shape_, false);
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
