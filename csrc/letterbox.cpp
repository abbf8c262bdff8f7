#include "letterbox.hpp"

#include <cstring>

namespace lowwatt {

void pad_quantize(const uint8_t* image, const PadShape& s, const int8_t* table, uint8_t pad, int8_t* out) {
    const int64_t row = s.out_width * s.channels, inner = s.width * s.channels, before = s.left * s.channels;
    const auto fill = [&](int8_t* at, int64_t count) { std::memset(at, table[pad], size_t(count)); };
    fill(out, s.top * row);
    out += s.top * row;
    for (int64_t y = 0; y < s.height; ++y, image += inner, out += row) {
        fill(out, before);
        for (int64_t i = 0; i < inner; ++i) out[before + i] = table[image[i]];
        fill(out + before + inner, row - before - inner);
    }
    fill(out, (s.out_height - s.top - s.height) * row);
}

}  // namespace lowwatt
