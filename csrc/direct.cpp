#include "direct.hpp"

#include <algorithm>

#include "padded.hpp"

namespace lowwatt {
namespace {

constexpr int64_t block_pixels = 96;  // output pixels for which one panel of weights stays in the cache

}  // namespace

DirectConvolution::DirectConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape,
                                     const Epilogue& epilogue, const Kernel& kernel)
    : shape_(shape),
      epilogue_(epilogue),
      kernel_(kernel),
      run_columns_(shape.dilation_w == 1 && shape.groups == 1 ? shape.kernel_w : 1),
      run_words_(round_up(run_columns_ * shape.group_channels, kernel.direct.values) / kernel.direct.values),
      runs_(shape.kernel_h * shape.kernel_w / run_columns_),
      group_panels_(round_up(shape.out_channels / shape.groups, panel_width) / panel_width),
      bias_(size_t(shape.groups * group_panels_ * panel_width)),
      weights_(size_t(shape.groups * group_panels_ * panel_bytes())) {
    pack(weights, bias);
}

void DirectConvolution::pack(const int8_t* weights, const int32_t* bias) {
    const int64_t group_out = shape_.out_channels / shape_.groups, run = run_columns_ * shape_.group_channels;
    const int values = kernel_.direct.values;
    for (int64_t o = 0; o < shape_.out_channels; ++o) {
        const int64_t panel = o / group_out * group_panels_ + o % group_out / panel_width;
        const int64_t channel = o % group_out % panel_width;
        int64_t sum = 0;
        for (int64_t i = 0; i < runs_ * run; ++i, ++weights) {
            const int64_t word = i / run * run_words_ + i % run / values;
            const int64_t byte = panel * panel_bytes() + (word * panel_width + channel) * word_bytes;
            weights_.put(byte, i % run % values, values, *weights);
            sum += *weights;
        }
        const int32_t whole = int32_t(bias[o] - 2 * kernel_.direct.offset * sum);  // fits: check_range
        bias_[size_t(panel * panel_width + channel)] = epilogue_.is_plain_shift() ? epilogue_.start(whole) : whole;
    }
}

std::vector<Segment> DirectConvolution::segments(int64_t row_bytes, int64_t pixel_bytes) const {
    std::vector<Segment> found;
    for (int64_t y = 0; y < shape_.kernel_h; ++y)
        for (int64_t x = 0; x < shape_.kernel_w; x += run_columns_)
            found.push_back({y * shape_.dilation_h * row_bytes + x * shape_.dilation_w * pixel_bytes, run_words_});
    return found;
}

void DirectConvolution::run(const int8_t* x, int64_t height, int64_t width, int8_t* out) const {
    if (kernel_.direct.values == 4) run_as<int8_t>(x, height, width, out);
    else run_as<int16_t>(x, height, width, out);
}

template <typename T>
void DirectConvolution::run_as(const int8_t* x, int64_t height, int64_t width, int8_t* out) const {
    const bool reads_on = run_columns_ * shape_.group_channels % kernel_.direct.values != 0;
    const PaddedInput<T> input(x, height, width, shape_, !reads_on);
    const int64_t pixel_bytes = input.pixel * int64_t(sizeof(T)), row_bytes = input.width * pixel_bytes;
    const Job job{reinterpret_cast<const char*>(input.values()), row_bytes, pixel_bytes, shape_.out_w(width),
                  segments(row_bytes, pixel_bytes), out};
    const int64_t pixels = shape_.out_h(height) * job.out_w;
    for (int64_t first = 0; first < pixels; first += block_pixels)
        run_block(job, first, std::min(block_pixels, pixels - first));
}

void DirectConvolution::run_block(const Job& job, int64_t first, int64_t count) const {
    const char* bases[block_pixels];
    int64_t y = first / job.out_w, x = first % job.out_w;
    for (int64_t i = 0; i < count; ++i) {
        bases[i] = job.input + y * shape_.stride_h * job.row_bytes + x * shape_.stride_w * job.pixel_bytes;
        if (++x == job.out_w) x = 0, ++y;
    }
    const int64_t group_out = shape_.out_channels / shape_.groups;
    int8_t* out = job.out + first * shape_.out_channels;
    for (int64_t g = 0; g < shape_.groups; ++g) {
        const int step = panels_together(group_panels_, kernel_.direct.panels);
        for (int64_t p = 0; p < group_panels_; p += step)
            run_panels(job, bases, count, g * group_panels_ + p, int(std::min<int64_t>(step, group_panels_ - p)),
                       group_out - p * panel_width, out + g * group_out + p * panel_width);
        for (int64_t i = 0; i < count; ++i) bases[i] += job.pixel_bytes / shape_.groups;
    }
}

// channels: those that are left of the group.
void DirectConvolution::run_panels(const Job& job, const char* const* bases, int64_t count, int64_t first_panel,
                                   int panels, int64_t channels, int8_t* out) const {
    const TileSize& tile = kernel_.direct;
    const Panels weights{weights_.at(first_panel * panel_bytes()), panel_bytes(), panels};
    for (int64_t i = 0; i < count; i += tile.rows, out += tile.rows * shape_.out_channels) {
        const int rows = int(std::min<int64_t>(tile.rows, count - i));
        kernel_.run_direct({bases + i, rows, job.segments.data(), int64_t(job.segments.size())}, weights,
                           {bias_.data() + first_panel * panel_width, epilogue_, channels, out, shape_.out_channels});
    }
}

}  // namespace lowwatt
