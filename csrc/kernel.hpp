// What an instruction set brings to the convolution: one record of functions each, chosen at run time.
//
// The inner tile is a few output pixels times sixteen output channels. The reduction goes word by word: a word is the
// four bytes in which two int16 or four int8 values of a pixel lie side by side, and for each word a panel of weights
// holds sixteen channels, so 64 bytes. Sums wrap in 32 bits; who packs the weights makes sure that the results fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "epilogue.hpp"

namespace lowwatt {

constexpr int panel_width = 16;    // output channels of a tile
constexpr int max_tile_rows = 12;  // most output pixels of a tile
constexpr int word_bytes = 4;
constexpr int panel_word_bytes = panel_width * word_bytes;

// A run of words that lie side by side in the input, `offset` bytes from the pixel's base.
struct Segment {
    int64_t offset, words;
};

// sums[row * panel_width + channel] for `rows` pixels (their bases in `pixels`) over all segments.
// `sums` has room for a full tile; what lies behind `rows` is undefined.
using TileKernel = void (*)(const char* const* pixels, int rows, const Segment* segments, int64_t segment_count,
                            const char* panel, int32_t* sums);

// The tile's int8 results, rounded from 2 * sum + bias: `channels` of each row, rows `row_stride` apart in `out`.
using FinishKernel = void (*)(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue,
                              int channels, int8_t* out, int64_t row_stride);

// The two transforms of winograd.hpp, for 16 channels of one tile.
using InputTransform = void (*)(const int8_t* x, int64_t row_bytes, int64_t pixel_bytes, int16_t* out,
                                int64_t position_stride);
using OutputTransform = void (*)(const int32_t* products, int64_t position_stride, int32_t* sums);

struct Tile {
    TileKernel run;
    int rows;    // pixels that a full tile takes
    int values;  // of the input in one word: 4 int8 or 2 int16
    int offset;  // the sums are those of x + offset
};

struct Kernel {
    const char* name;
    Tile direct;  // int8 or int16, whichever is quicker
    Tile pairs;   // int16
    FinishKernel finish;
    InputTransform transform_input;
    OutputTransform transform_output;
};

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
