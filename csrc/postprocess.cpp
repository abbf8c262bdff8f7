#include "postprocess.hpp"

#include <algorithm>
#include <cmath>

namespace lowwatt {
namespace {

constexpr double max_log_size = 20.0;  // MAX_LOG_SIZE of the twin

float sigmoid(float x) { return float(1.0 / (1.0 + std::exp(-double(x)))); }
float size_of(float log) { return float(std::exp(std::min(double(log), max_log_size))); }

Detection make(const HeadShape& shape, int64_t anchor, const float offset[2], const float size[2], float score,
               int64_t label) {
    const float stride = float(shape.stride), half_stride = stride * 0.5f;
    const float cx = (offset[0] + float(anchor % shape.width)) * stride, half_w = size[0] * half_stride;
    const float cy = (offset[1] + float(anchor / shape.width)) * stride, half_h = size[1] * half_stride;
    return {{cx - half_w, cy - half_h, cx + half_w, cy + half_h}, score, label};
}

bool overlaps(const Detection& a, const Detection& b, float iou) {
    const float width = std::max(std::min(a.box[2], b.box[2]) - std::max(a.box[0], b.box[0]), 0.0f);
    const float height = std::max(std::min(a.box[3], b.box[3]) - std::max(a.box[1], b.box[1]), 0.0f);
    const float common = width * height;
    const float area_a = (a.box[2] - a.box[0]) * (a.box[3] - a.box[1]);
    const float area_b = (b.box[2] - b.box[0]) * (b.box[3] - b.box[1]);
    return common > iou * (area_a + area_b - common);
}

}  // namespace

void Candidates::add(const HeadShape& shape, const int8_t* classes, const int8_t* box, const int8_t* objectness,
                     const HeadTables& tables) {
    const float* probability = tables.objectness_probability;
    const int lowest = int(std::lower_bound(probability, probability + 256, conf_) - probability) - 128;
    for (int64_t anchor = 0; anchor < shape.height * shape.width; ++anchor) {
        if (objectness[anchor] < lowest) continue;
        const int8_t* row = classes + anchor * shape.classes;
        const int64_t label = std::max_element(row, row + shape.classes) - row;
        const float score = tables.class_probability[row[label] + 128] * probability[objectness[anchor] + 128];
        if (!(score >= conf_)) continue;
        const int8_t* raw = box + anchor * 4;
        const float offset[2] = {tables.offset[raw[0] + 128], tables.offset[raw[1] + 128]};
        const float size[2] = {tables.size[raw[2] + 128], tables.size[raw[3] + 128]};
        found_.push_back(make(shape, anchor, offset, size, score, label));
    }
}

void Candidates::add(const HeadShape& shape, const float* classes, const float* box, const float* objectness) {
    for (int64_t anchor = 0; anchor < shape.height * shape.width; ++anchor) {
        const float probability = sigmoid(objectness[anchor]);
        if (!(probability >= conf_)) continue;
        const float* row = classes + anchor * shape.classes;
        const int64_t label = std::max_element(row, row + shape.classes) - row;
        const float score = sigmoid(row[label]) * probability;
        if (!(score >= conf_)) continue;
        const float* raw = box + anchor * 4;
        const float size[2] = {size_of(raw[2]), size_of(raw[3])};
        found_.push_back(make(shape, anchor, raw, size, score, label));
    }
}

std::vector<Detection> Candidates::suppress(float iou, int64_t max_det) const {
    std::vector<Detection> sorted = found_;
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    std::vector<Detection> kept;
    for (const Detection& next : sorted) {
        if (int64_t(kept.size()) >= max_det) break;
        const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Detection& better) {
            return better.label == next.label && overlaps(better, next, iou);
        });
        if (!covered) kept.push_back(next);
    }
    return kept;
}

}  // namespace lowwatt
