#include "suppress.hpp"

#include <algorithm>
#include <cstring>

#include "cpu.hpp"

namespace lowwatt {
namespace {

constexpr int64_t lanes = 8;

// Indices of the best score first. A float that is not negative sorts as its bits do; the index breaks ties.
std::vector<uint64_t> best_first(const std::vector<Candidate>& found) {
    std::vector<uint64_t> keys(found.size());
    for (size_t i = 0; i < found.size(); ++i) {
        uint32_t bits;
        std::memcpy(&bits, &found[i].score, sizeof bits);
        keys[i] = uint64_t(~bits) << 32 | i;
    }
    std::sort(keys.begin(), keys.end());
    return keys;
}

// The boxes that stay, a run of blocks for each class, so that one is compared with its own class alone, a block at a
// time. What is left of a block is boxes without area, which cover nothing.
class Kept {
public:
    Kept(const std::vector<Candidate>& found, int64_t classes) : runs_(size_t(classes)) {
        for (const Candidate& one : found) ++runs_[size_t(one.label)].count;
        int64_t next = 0;
        for (Run& run : runs_) {
            run.first = next;
            next += (run.count + lanes - 1) / lanes;
            run.count = 0;
        }
        blocks_.resize(size_t(next));
    }

    void add(const Candidate& one) {
        Run& run = runs_[size_t(one.label)];
        Block& block = blocks_[size_t(run.first + run.count / lanes)];
        const int64_t at = run.count++ % lanes;
        block.x1[at] = one.box[0], block.y1[at] = one.box[1], block.x2[at] = one.box[2], block.y2[at] = one.box[3];
        block.area[at] = area(one);
    }

    LOWWATT_INLINE bool covers(const Candidate& one, float iou) const {
        const Run& run = runs_[size_t(one.label)];
        const float own = area(one);
        for (int64_t i = 0; i * lanes < run.count; ++i)
            if (covers(blocks_[size_t(run.first + i)], one, own, iou)) return true;
        return false;
    }

private:
    struct Run {
        int64_t first = 0, count = 0;  // blocks before it, boxes in it
    };
    struct Block {
        float x1[lanes] = {}, y1[lanes] = {}, x2[lanes] = {}, y2[lanes] = {}, area[lanes] = {};
    };

    static float area(const Candidate& one) { return (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]); }

    static LOWWATT_INLINE bool covers(const Block& block, const Candidate& one, float own, float iou) {
        int32_t covered = 0;
        for (int64_t k = 0; k < lanes; ++k) {
            const float width = std::min(block.x2[k], one.box[2]) - std::max(block.x1[k], one.box[0]);
            const float height = std::min(block.y2[k], one.box[3]) - std::max(block.y1[k], one.box[1]);
            const float common = std::max(width, 0.0f) * std::max(height, 0.0f);
            covered |= common > iou * (block.area[k] + own - common);
        }
        return covered != 0;
    }

    std::vector<Run> runs_;
    std::vector<Block> blocks_;
};

LOWWATT_INLINE void suppress_body(const std::vector<Candidate>& found, Kept& kept, float iou, int64_t max_det,
                                  std::vector<Candidate>& out) {
    for (const uint64_t key : best_first(found)) {
        if (int64_t(out.size()) >= max_det) break;
        const Candidate& next = found[size_t(uint32_t(key))];
        if (kept.covers(next, iou)) continue;
        kept.add(next);
        out.push_back(next);
    }
}

#ifdef LOWWATT_X86
LOWWATT_AVX2 void suppress_avx2(const std::vector<Candidate>& found, Kept& kept, float iou, int64_t max_det,
                                std::vector<Candidate>& out) {
    suppress_body(found, kept, iou, max_det, out);
}
#endif

}  // namespace

std::vector<Candidate> suppress(const std::vector<Candidate>& found, int64_t classes, float iou, int64_t max_det) {
    std::vector<Candidate> out;
    out.reserve(std::min(found.size(), size_t(std::max<int64_t>(max_det, 0))));
    Kept kept(found, classes);
#ifdef LOWWATT_X86
    if (has_avx2()) {
        suppress_avx2(found, kept, iou, max_det, out);
        return out;
    }
#endif
    suppress_body(found, kept, iou, max_det, out);
    return out;
}

}  // namespace lowwatt
