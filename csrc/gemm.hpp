// The inner tile of the convolution: a few output pixels times sixteen output channels.
//
// Values are int16 pairs along the reduction. Multiplying pairs and adding them into 32 bits is exact for int8
// values (2 * 128 * 128 < 2^31), unlike the saturating byte instructions. One packing of the weights serves all
// instruction sets: per pair of reduction values sixteen channels, so 64 bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "epilogue.hpp"

namespace lowwatt {

constexpr int panel_width = 16;    // output channels of a tile
constexpr int max_tile_rows = 12;  // most output pixels of a tile

// A run of values that lie side by side in the input: `offset` from the pixel's base, `pairs` int16 pairs long.
struct Segment {
    int64_t offset;
    int64_t pairs;
};

// sums[row * panel_width + channel] for `rows` pixels (their bases in `pixels`) over all segments.
using TileKernel = void (*)(const int16_t* const* pixels, int rows, const Segment* segments, int64_t segment_count,
                            const int16_t* panel, int32_t* sums);

// The tile's int8 results: `channels` of each row, rows `row_stride` apart in `out`.
// bias: panel_width values, floor(2 * b * 2^shift_bias) of each channel.
using FinishKernel = void (*)(const int32_t* sums, int rows, const int32_t* bias, const Epilogue& epilogue,
                              int channels, int8_t* out, int64_t row_stride);

struct GemmKernel {
    const char* name;
    int rows;  // pixels that a full tile takes
    TileKernel run;
    FinishKernel finish;
};

// Kernels that this processor can run, slowest first; the last is the default.
std::vector<GemmKernel> available_kernels();

// By name, or the default for "auto"; throws std::invalid_argument for a name that is not available.
GemmKernel choose_kernel(const std::string& name);

}  // namespace lowwatt
