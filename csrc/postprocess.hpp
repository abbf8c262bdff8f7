// From raw outputs to boxes: threshold, class maximum, decoding. The NumPy twin in lowwatt/runtime/decode.py defines
// the result.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "suppress.hpp"

namespace lowwatt {

using RealTable = std::array<float, 256>;  // of each int8, from -128 up

// What the integers of one stride mean, by channel: the curve of the head's kind after dequantization.
struct HeadTables {
    RealTable classes, offset, size, objectness;
};

// Outputs of one stride, each height * width * channels.
template <typename T>
struct Maps {
    int64_t height, width;
    const T *classes, *box, *objectness;
};

// Map of input pixels back to the source image: (x - left) / scale, clipped to 0 … limit.
struct Source {
    float pad[2], scale[2], limit[2];  // horizontal, vertical
};

enum class HeadKind { yolox, fastestdet };
HeadKind head_kind(const std::string& name);

struct PostprocessSettings {
    HeadKind kind;
    int64_t classes;
    float conf, iou;
    int64_t max_det;
};

// One stride with what can be known before the first image: the lowest raw values that can reach `conf`.
class Stride {
public:
    Stride(const PostprocessSettings& settings, int64_t stride, const std::optional<HeadTables>& tables);

    bool integers() const { return tables_.has_value(); }
    void read(const Maps<int8_t>& maps, std::vector<Candidate>& found) const;
    void read(const Maps<float>& maps, std::vector<Candidate>& found) const;

private:
    PostprocessSettings settings_;
    int64_t stride_;
    std::optional<HeadTables> tables_;
    int lowest_objectness_ = 128;                // of the integers
    std::array<int16_t, 256> lowest_class_;      // by objectness
    float lowest_objectness_logit_, lowest_class_logit_;
};

// Boxes of the candidates in pixels of the source image.
void to_source(const Source& source, std::vector<Candidate>& boxes);

}  // namespace lowwatt
