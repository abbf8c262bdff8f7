#include "winograd.hpp"

#include <algorithm>
#include <cstdlib>

#include "padded.hpp"
#include "winograd_transform.hpp"

namespace lowwatt {
namespace {

constexpr int64_t input_bytes = 300 << 10;  // of transformed tiles, which with their products should stay in the cache
constexpr int64_t most_tiles = 96;
constexpr int64_t transform_cost = 8;  // of a position and channel, in steps of a lane; measured on AVX2 and AVX512

constexpr int kernel_side = 3;
constexpr int points[winograd_input][kernel_side] = {{1, 0, 0}, {1, 1, 1},  {1, -1, 1},
                                                     {1, 2, 4}, {1, -2, 4}, {0, 0, 1}};

int64_t tiles_along(int64_t pixels) { return (pixels + winograd_output - 1) / winograd_output; }

// (G g G^T)[i][j] of the kernel of one input and output channel.
int16_t transformed_weight(const int8_t* g, int64_t stride, int i, int j) {
    int sum = 0;
    for (int y = 0; y < kernel_side; ++y)
        for (int x = 0; x < kernel_side; ++x) sum += points[i][y] * points[j][x] * g[(y * kernel_side + x) * stride];
    return int16_t(sum);
}

// The map with room for whole tiles.
ConvShape grown(ConvShape shape, int64_t height, int64_t width) {
    shape.bottom += tiles_along(shape.out_h(height)) * winograd_output - shape.out_h(height);
    shape.right += tiles_along(shape.out_w(width)) * winograd_output - shape.out_w(width);
    return shape;
}

}  // namespace

bool WinogradConvolution::is_exact(const int8_t* weights, const ConvShape& shape) {
    const bool fits = shape.kernel_h == kernel_side && shape.kernel_w == kernel_side && shape.groups == 1 &&
                      shape.stride_h == 1 && shape.stride_w == 1 && shape.dilation_h == 1 && shape.dilation_w == 1 &&
                      shape.insert_h == 1 && shape.insert_w == 1;
    if (!fits) return false;
    const int64_t taps = kernel_side * kernel_side * shape.group_channels;
    for (int64_t o = 0; o < shape.out_channels; ++o) {
        int64_t sum = 0;
        for (int64_t t = 0; t < taps; ++t) sum += std::abs(int64_t(*weights++));
        if (128 * sum >= int64_t(1) << (31 - winograd_scale)) return false;
    }
    return true;
}

// Compares the steps of both methods, each the work of one lane on one word.
bool WinogradConvolution::pays(const ConvShape& shape, const Kernel& kernel, MapSize size) {
    if (size.height < 1 || size.width < 1) return false;
    const int64_t height = shape.out_h(size.height), width = shape.out_w(size.width);
    const int64_t inputs = shape.group_channels, outputs = round_up(shape.out_channels, panel_width);
    const int64_t tiles = round_up(tiles_along(height) * tiles_along(width), kernel.pairs.rows);
    const int64_t direct = height * width * kernel_side * kernel_side * inputs * outputs / kernel.direct.values;
    const int64_t products = inputs * outputs / kernel.pairs.values;
    return tiles * winograd_positions * (products + transform_cost * (inputs + outputs)) < direct;
}

WinogradConvolution::WinogradConvolution(const int8_t* weights, const int32_t* bias, const ConvShape& shape,
                                         const Epilogue& epilogue, const Kernel& kernel)
    : shape_(shape),
      epilogue_(epilogue),
      kernel_(kernel),
      pair_words_(round_up(shape.group_channels, 2) / 2),
      channel_stride_(round_up(shape.group_channels, winograd_channels)),
      panels_(round_up(shape.out_channels, panel_width) / panel_width),
      bias_(bias, bias + shape.out_channels),
      weights_(size_t(panels_ * winograd_positions * position_bytes())) {
    bias_.resize(size_t(panels_ * panel_width));
    if (epilogue.is_plain_shift())
        for (int32_t& value : bias_) value = epilogue.start(value);
    pack(weights);
}

void WinogradConvolution::pack(const int8_t* weights) {
    const int64_t channels = shape_.group_channels;
    for (int64_t o = 0; o < shape_.out_channels; ++o, weights += kernel_side * kernel_side * channels)
        for (int p = 0; p < winograd_positions; ++p)
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t position = o / panel_width * winograd_positions + p;
                const int64_t word = c / 2 * panel_width + o % panel_width;
                weights_.put(position * position_bytes() + word * word_bytes, c % 2, 2,
                             transformed_weight(weights + c, channels, p / winograd_input, p % winograd_input));
            }
}

// Some tiles of a map, which go through the three steps together.
struct WinogradConvolution::Job {
    const PaddedInput<int8_t>& input;
    int8_t* out;
    int64_t out_h, out_w;
    int64_t capacity;  // tiles, a multiple of a kernel tile's rows
    std::unique_ptr<int16_t[]> transformed;  // [position][tile][channel]
    std::unique_ptr<int32_t[]> products;     // [position][kernel's tile][panel][row][channel]
    int64_t first = 0, count = 0;

    int64_t row(int64_t tile) const { return (first + tile) / tiles_along(out_w) * winograd_output; }
    int64_t column(int64_t tile) const { return (first + tile) % tiles_along(out_w) * winograd_output; }
};

// From position to position, one cache line more than the tiles take: else all would meet in a few sets of the cache.
int64_t WinogradConvolution::transformed_stride(int64_t tiles) const { return tiles * channel_stride_ + 32; }
int64_t WinogradConvolution::products_stride(int64_t tiles) const {
    return tiles / kernel_.pairs.rows * tile_products() + 16;
}
int64_t WinogradConvolution::tile_products() const {
    return kernel_.pairs.panels * kernel_.pairs.rows * panel_width;
}

int64_t WinogradConvolution::tiles_together(int64_t tiles) const {
    const int64_t fitting = input_bytes / (winograd_positions * channel_stride_ * int64_t(sizeof(int16_t)));
    const int64_t rows = kernel_.pairs.rows;
    return round_up(std::min(std::clamp(fitting, rows, most_tiles), tiles), rows);
}

void WinogradConvolution::run(const int8_t* x, int64_t height, int64_t width, int8_t* out) const {
    const PaddedInput<int8_t> input(x, height, width, grown(shape_, height, width));
    const int64_t out_h = shape_.out_h(height), out_w = shape_.out_w(width);
    const int64_t tiles = tiles_along(out_h) * tiles_along(out_w), capacity = tiles_together(tiles);
    Job job{input, out, out_h, out_w, capacity,
            std::unique_ptr<int16_t[]>(new int16_t[size_t(winograd_positions * transformed_stride(capacity))]),
            std::unique_ptr<int32_t[]>(new int32_t[size_t(winograd_positions * products_stride(capacity))])};
    for (; job.first < tiles; job.first += job.capacity) {
        job.count = std::min(job.capacity, tiles - job.first);
        transform_inputs(job);
        const int step = panels_together(panels_, kernel_.pairs.panels);
        for (int64_t panel = 0; panel < panels_; panel += step) {
            const int panels = int(std::min<int64_t>(step, panels_ - panel));
            multiply(job, panel, panels);
            for (int i = 0; i < panels; ++i) transform_outputs(job, panel + i, i);
        }
    }
}

void WinogradConvolution::transform_inputs(Job& job) const {
    const int64_t pixel_bytes = job.input.pixel, row_bytes = job.input.width * pixel_bytes;
    for (int64_t t = 0; t < job.count; ++t) {
        const int8_t* x = job.input.values() + job.row(t) * row_bytes + job.column(t) * pixel_bytes;
        for (int64_t c = 0; c < channel_stride_; c += winograd_channels)
            kernel_.transform_input(x + c, row_bytes, pixel_bytes, job.transformed.get() + t * channel_stride_ + c,
                                    transformed_stride(job.capacity));
    }
}

void WinogradConvolution::multiply(Job& job, int64_t first_panel, int panels) const {
    const Segment all{0, pair_words_};
    const TileSize& tile = kernel_.pairs;
    for (int64_t p = 0; p < winograd_positions; ++p) {
        const Panels weights{weights_.at((first_panel * winograd_positions + p) * position_bytes()),
                             winograd_positions * position_bytes(), panels};
        const int16_t* transformed = job.transformed.get() + p * transformed_stride(job.capacity);
        int32_t* products = job.products.get() + p * products_stride(job.capacity);
        for (int64_t t = 0; t < job.count; t += tile.rows, products += tile_products()) {
            const char* bases[max_tile_rows];
            const int rows = int(std::min<int64_t>(tile.rows, job.count - t));
            for (int r = 0; r < rows; ++r)
                bases[r] = reinterpret_cast<const char*>(transformed + (t + r) * channel_stride_);
            kernel_.run_pairs({bases, rows, &all, 1}, weights, products);
        }
    }
}

void WinogradConvolution::transform_outputs(const Job& job, int64_t panel, int index) const {
    int32_t sums[winograd_output * winograd_output * panel_width];
    const int64_t tile_rows = kernel_.pairs.rows;
    for (int64_t t = 0; t < job.count; ++t) {
        const int64_t row_in_tile = index * tile_rows + t % tile_rows;
        kernel_.transform_output(
            job.products.get() + t / tile_rows * tile_products() + row_in_tile * panel_width,
            products_stride(job.capacity), sums);
        const int64_t y = job.row(t), x = job.column(t);
        const int64_t rows = std::min<int64_t>(winograd_output, job.out_h - y);
        const int columns = int(std::min<int64_t>(winograd_output, job.out_w - x));
        for (int64_t row = 0; row < rows; ++row)
            kernel_.finish(sums + row * winograd_output * panel_width, columns,
                           {bias_.data() + panel * panel_width, epilogue_, shape_.out_channels - panel * panel_width,
                            job.out + ((y + row) * job.out_w + x) * shape_.out_channels + panel * panel_width,
                            shape_.out_channels});
    }
}

}  // namespace lowwatt
