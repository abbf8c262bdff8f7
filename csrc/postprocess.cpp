#include "postprocess.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "cpu.hpp"

namespace lowwatt {
namespace {

// The curves of lowwatt/runtime/levels.py: double inside, float32 outside.
float sigmoid(float x) { return float(1.0 / (1.0 + std::exp(-double(x)))); }
float size_of(float log) { return float(std::exp(std::min(double(log), 20.0))); }  // MAX_LOG_SIZE
float tanh_of(float x) { return float(std::tanh(double(x))); }
float root(float x) { return float(std::pow(double(sigmoid(x)), 0.6)); }

// float(share ** .4) of the greatest logit among all.
template <typename Real, typename T>
float sureness(const Real& real, const T* row, int64_t classes, T greatest) {
    const double top = double(real(greatest));
    double sum = 0.0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(real(row[c])) - top);
    return float(std::pow(1.0 / sum, 0.4));
}

// -- what a raw value means, for integers by table, for logits by the curve itself -------------------------------

struct IntegerReader {
    using Value = int8_t;
    HeadKind kind;
    const HeadTables& tables;
    int lowest_objectness;
    const int16_t* lowest_class;

    static float at(const RealTable& table, int8_t q) { return table[size_t(q + 128)]; }
    bool likely(int8_t q) const { return q >= lowest_objectness; }
    bool reaches(int8_t greatest, int8_t q) const { return greatest >= lowest_class[q + 128]; }
    float score(const int8_t* row, int64_t classes, int8_t greatest, int8_t q) const {
        const auto real = [this](int8_t c) { return at(tables.classes, c); };
        const float sure = kind == HeadKind::yolox ? real(greatest) : sureness(real, row, classes, greatest);
        return at(tables.objectness, q) * sure;
    }
    float offset(int8_t q) const { return at(tables.offset, q); }
    float size(int8_t q) const { return at(tables.size, q); }
};

struct LogitReader {
    using Value = float;
    HeadKind kind;
    float lowest_objectness, lowest_class;

    bool likely(float x) const { return x >= lowest_objectness; }
    bool reaches(float greatest, float) const { return greatest >= lowest_class; }
    float score(const float* row, int64_t classes, float greatest, float x) const {
        if (kind == HeadKind::yolox) return sigmoid(greatest) * sigmoid(x);
        return root(x) * sureness([](float c) { return c; }, row, classes, greatest);
    }
    float offset(float x) const { return kind == HeadKind::yolox ? x : tanh_of(x); }
    float size(float x) const { return kind == HeadKind::yolox ? size_of(x) : sigmoid(x); }
};

// -- the greatest of a row, and where it stands first ------------------------------------------------------------

LOWWATT_INLINE int8_t greatest_of(const int8_t* row, int64_t count) {
    int8_t greatest = row[0];
    for (int64_t i = 1; i < count; ++i) greatest = std::max(greatest, row[i]);
    return greatest;
}

// The bits of a float as an integer of the same order, and back: a maximum of integers can be taken in any order, so
// that the compiler may take several at a time.
LOWWATT_INLINE int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }

LOWWATT_INLINE float greatest_of(const float* row, int64_t count) {
    int32_t greatest = std::numeric_limits<int32_t>::min();
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        std::memcpy(&bits, row + i, sizeof bits);
        greatest = std::max(greatest, ordered(bits));
    }
    greatest = ordered(greatest);
    float value;
    std::memcpy(&value, &greatest, sizeof value);
    return value;
}

int64_t first_of(const int8_t* row, int64_t count, int8_t value) {
    return static_cast<const int8_t*>(std::memchr(row, uint8_t(value), size_t(count))) - row;
}
int64_t first_of(const float* row, int64_t count, float value) { return std::find(row, row + count, value) - row; }

// -- one stride --------------------------------------------------------------------------------------------------

struct Grid {
    float stride, half_w, half_h;  // pixels of a cell; of half a box of size 1
    int32_t width;
    int64_t classes;

    template <typename Reader>
    Candidate decode(const Reader& reader, int32_t cell, const typename Reader::Value* raw, float score,
                     int64_t label) const {
        const float cx = (reader.offset(raw[0]) + float(cell % width)) * stride, w = reader.size(raw[2]) * half_w;
        const float cy = (reader.offset(raw[1]) + float(cell / width)) * stride, h = reader.size(raw[3]) * half_h;
        return {{cx - w, cy - h, cx + w, cy + h}, score, int32_t(label)};
    }
};

template <typename Reader>
LOWWATT_INLINE void read_cell(const Reader& reader, const Grid& grid, const Maps<typename Reader::Value>& maps,
                              int32_t cell, float conf, std::vector<Candidate>& found) {
    const auto* row = maps.classes + cell * grid.classes;
    const auto greatest = greatest_of(row, grid.classes);
    if (!reader.reaches(greatest, maps.objectness[cell])) return;
    const float score = reader.score(row, grid.classes, greatest, maps.objectness[cell]);
    if (!(score >= conf)) return;
    const int64_t label = first_of(row, grid.classes, greatest);
    found.push_back(grid.decode(reader, cell, maps.box + int64_t(4) * cell, score, label));
}

// The likely cells of a block are listed without a branch, which could not be foreseen; then they alone are read.
template <typename Reader>
LOWWATT_INLINE void read_body(const Reader& reader, const Grid& grid, const Maps<typename Reader::Value>& maps,
                              float conf, std::vector<Candidate>& found) {
    constexpr int32_t block = 512;
    int32_t likely[block];
    const int32_t cells = int32_t(maps.height * maps.width);
    for (int32_t start = 0; start < cells; start += block) {
        int32_t count = 0;
        for (int32_t cell = start; cell < std::min(start + block, cells); ++cell) {
            likely[count] = cell;
            count += reader.likely(maps.objectness[cell]);
        }
        for (int32_t i = 0; i < count; ++i) read_cell(reader, grid, maps, likely[i], conf, found);
    }
}

#ifdef LOWWATT_X86
template <typename Reader>
LOWWATT_AVX2 void read_avx2(const Reader& reader, const Grid& grid, const Maps<typename Reader::Value>& maps,
                            float conf, std::vector<Candidate>& found) {
    read_body(reader, grid, maps, conf, found);
}
#endif

template <typename Reader>
void read_stride(const Reader& reader, const PostprocessSettings& settings, int64_t stride,
                 const Maps<typename Reader::Value>& maps, std::vector<Candidate>& found) {
    const bool cells = settings.kind == HeadKind::yolox;  // sizes are in cells, else shares of the whole input
    const float pixels = float(stride);
    const Grid grid{pixels, (cells ? 1.0f : float(maps.width)) * pixels * 0.5f,
                    (cells ? 1.0f : float(maps.height)) * pixels * 0.5f, int32_t(maps.width), settings.classes};
#ifdef LOWWATT_X86
    if (has_avx2()) return read_avx2(reader, grid, maps, settings.conf, found);
#endif
    read_body(reader, grid, maps, settings.conf, found);
}

// -- the lowest values that can reach the threshold --------------------------------------------------------------

int lowest_integer(const RealTable& table, float conf, float factor = 1.0f) {
    const auto* at = std::lower_bound(table.begin(), table.end(), conf,
                                      [factor](float value, float least) { return value * factor < least; });
    return int(at - table.begin()) - 128;
}

// Least logit whose curve reaches `conf`: the curves rise, so halving finds it; infinity where none does.
template <typename Curve>
float lowest_logit(const Curve& curve, float conf) {
    float low = -1000.0f, high = 1000.0f;
    if (curve(low) >= conf) return -std::numeric_limits<float>::infinity();
    if (!(curve(high) >= conf)) return std::numeric_limits<float>::infinity();
    for (float middle = 0.0f; middle > low && middle < high; middle = low + (high - low) * 0.5f)
        (curve(middle) >= conf ? high : low) = middle;
    return high;
}

}  // namespace

HeadKind head_kind(const std::string& name) {
    if (name == "yolox") return HeadKind::yolox;
    if (name == "fastestdet") return HeadKind::fastestdet;
    throw std::invalid_argument("the core knows no " + name + " heads");
}

Stride::Stride(const PostprocessSettings& settings, int64_t stride, const std::optional<HeadTables>& tables)
    : settings_(settings), stride_(stride), tables_(tables) {
    const bool yolox = settings.kind == HeadKind::yolox;
    lowest_objectness_logit_ = lowest_logit(yolox ? sigmoid : root, settings.conf);
    lowest_class_logit_ = yolox ? lowest_logit(sigmoid, settings.conf) : -std::numeric_limits<float>::infinity();
    lowest_class_.fill(-128);
    if (!tables) return;
    lowest_objectness_ = lowest_integer(tables->objectness, settings.conf);
    for (size_t q = 0; yolox && q < 256; ++q)
        lowest_class_[q] = int16_t(lowest_integer(tables->classes, settings.conf, tables->objectness[q]));
}

void Stride::read(const Maps<int8_t>& maps, std::vector<Candidate>& found) const {
    const IntegerReader reader{settings_.kind, *tables_, lowest_objectness_, lowest_class_.data()};
    read_stride(reader, settings_, stride_, maps, found);
}

void Stride::read(const Maps<float>& maps, std::vector<Candidate>& found) const {
    const LogitReader reader{settings_.kind, lowest_objectness_logit_, lowest_class_logit_};
    read_stride(reader, settings_, stride_, maps, found);
}

void to_source(const Source& source, std::vector<Candidate>& boxes) {
    for (Candidate& one : boxes)
        for (int side = 0; side < 4; ++side) {
            const int axis = side % 2;
            const float at = (one.box[side] - source.pad[axis]) / source.scale[axis];
            one.box[side] = std::min(std::max(at, 0.0f), source.limit[axis]);
        }
}

}  // namespace lowwatt
