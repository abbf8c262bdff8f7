// Padding and quantization of an image that has its size already, in one pass.
#pragma once

#include <cstdint>

namespace lowwatt {

struct PadShape {
    int64_t height, width, out_height, out_width, channels, top, left;
};

// out = table[pixel] where the image lies, table[pad] around it; `out` is written whole.
void pad_quantize(const uint8_t* image, const PadShape& shape, const int8_t* table, uint8_t pad, int8_t* out);

}  // namespace lowwatt
