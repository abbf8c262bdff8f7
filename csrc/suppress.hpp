// Class-aware non-maximum suppression. The NumPy twin in lowwatt/runtime/postprocess.py defines the result.
#pragma once

#include <cstdint>
#include <vector>

namespace lowwatt {

struct Candidate {
    float box[4];  // x1, y1, x2, y2 in pixels of the input
    float score;   // not negative
    int32_t label;
};

// Best score first (ties: order of finding), greedy within a class: a box goes whose overlap with a better one that
// stays exceeds `iou`. At most `max_det` boxes; those that would follow are not looked at.
std::vector<Candidate> suppress(const std::vector<Candidate>& found, int64_t classes, float iou, int64_t max_det);

}  // namespace lowwatt
