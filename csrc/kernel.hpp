// What an instruction set brings to the convolution: one record of functions each, chosen at run time.
//
// The inner tile is a few output pixels times a few panels of sixteen output channels. The reduction goes word by word:
// a word is the four bytes in which two int16 or four int8 values of a pixel lie side by side, and for each word a
// panel of weights holds sixteen channels, so 64 bytes. Sums wrap in 32 bits; who packs the weights makes sure that
// the results fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "epilogue.hpp"

namespace lowwatt {

constexpr int panel_width = 16;   // output channels of a panel
constexpr int max_tile_rows = 8;  // most output pixels of a tile
constexpr int max_tile_panels = 3;
constexpr int word_bytes = 4;
constexpr int panel_word_bytes = panel_width * word_bytes;

// A run of words that lie side by side in the input, `offset` bytes from the pixel's base.
struct Segment {
    int64_t offset, words;
};

// Weights of some panels, `panel_bytes` apart.
struct Panels {
    const char* weights;
    int64_t panel_bytes;
    int count;
};

// What a tile reads: the bases of its pixels, and the segments that all of them have.
struct Window {
    const char* const* pixels;
    int rows;
    const Segment* segments;
    int64_t segment_count;
};

// Where int8 results go, rounded from 2 * sum + bias: `channels` of each row, from those of the first panel on.
struct Output {
    const int32_t* bias;  // of each channel; epilogue.start(bias) where that is a plain shift
    const Epilogue& epilogue;
    int64_t channels;
    int8_t* out;
    int64_t row_stride;
};

// The convolution of a window: its int8 results.
using DirectTile = void (*)(const Window& window, const Panels& panels, const Output& output);
// Its sums[panel][row][channel]: there must be room for a full tile; rows behind the window's are undefined.
using SumsTile = void (*)(const Window& window, const Panels& panels, int32_t* sums);
// The int8 results of some rows of sums of one panel.
using Finish = void (*)(const int32_t* sums, int rows, const Output& output);

// The two transforms of winograd.hpp, for 16 channels of one tile.
using InputTransform = void (*)(const int8_t* x, int64_t row_bytes, int64_t pixel_bytes, int16_t* out,
                                int64_t position_stride);
using OutputTransform = void (*)(const int32_t* products, int64_t position_stride, int32_t* sums);

// A full tile.
struct TileSize {
    int rows;    // pixels
    int panels;
    int values;  // of the input in one word: 4 int8 or 2 int16
    int offset;  // the sums are those of x + offset, for which the bias makes up
};

struct Kernel {
    const char* name;
    TileSize direct;  // int8 or int16, whichever is quicker
    DirectTile run_direct;
    TileSize pairs;  // int16
    SumsTile run_pairs;
    Finish finish;
    InputTransform transform_input;
    OutputTransform transform_output;
};

// How many of `panels` a tile should take at a time, so that all tiles have nearly as many.
inline int panels_together(int64_t panels, int most) {
    const int64_t tiles = (panels + most - 1) / most;
    return int((panels + tiles - 1) / tiles);
}

// Each is null where the compiler's machine has no such instructions.
const Kernel* plain_kernel();
const Kernel* avx2_kernel();
const Kernel* avx512vnni_kernel();
const Kernel* neon_kernel();
const Kernel* neon_dot_kernel();

// Kernels that this processor can run, slowest first; the last is the default.
std::vector<const Kernel*> available_kernels();

// By name, or the default for "auto"; throws std::invalid_argument for a name that is not available.
const Kernel& choose_kernel(const std::string& name);

}  // namespace lowwatt
