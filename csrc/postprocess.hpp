// Threshold, decode and class-aware suppression. The NumPy twin in lowwatt/runtime/postprocess.py defines the result.
#pragma once

#include <cstdint>
#include <vector>

namespace lowwatt {

struct Detection {
    float box[4];  // x1, y1, x2, y2 in pixels of the input
    float score;
    int64_t label;
};

// 256 values of each int8, from -128 up.
struct HeadTables {
    const float* class_probability;
    const float* offset;
    const float* size;
    const float* objectness_probability;
};

struct HeadShape {
    int64_t height, width, classes, stride;
};

class Candidates {
public:
    explicit Candidates(float conf) : conf_(conf) {}

    // Raw int8 outputs of one stride, each height * width * channels.
    void add(const HeadShape& shape, const int8_t* classes, const int8_t* box, const int8_t* objectness,
             const HeadTables& tables);
    // The same with float32 logits.
    void add(const HeadShape& shape, const float* classes, const float* box, const float* objectness);

    // Best score first (ties: order of adding), greedy within a class, at most max_det.
    std::vector<Detection> suppress(float iou, int64_t max_det) const;

private:
    float conf_;
    std::vector<Detection> found_;
};

}  // namespace lowwatt
