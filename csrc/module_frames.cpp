// The two ends of a frame behind the Python module: pixels to the network's input, raw outputs to boxes.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "arrays.hpp"
#include "letterbox.hpp"
#include "postprocess.hpp"

using namespace nb::literals;

namespace {

using AnyPlane = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Names = std::tuple<nb::str, nb::str, nb::str>;
using TableIn = nb::ndarray<const float, nb::shape<256>, nb::c_contig, nb::device::cpu>;
using Tables = std::tuple<TableIn, TableIn, TableIn, TableIn>;
using Box = std::tuple<double, double, double, double, double, double>;

lowwatt::RealTable copy(const TableIn& table) {
    lowwatt::RealTable copied;
    std::copy_n(table.data(), 256, copied.begin());
    return copied;
}

// One plane (1, H, W, C) or (H, W, C) with its sides; holds the array.
struct Plane {
    AnyPlane array;
    int64_t height, width;

    Plane(const nb::dict& outputs, const nb::str& name, int64_t channels) {
        PyObject* value = PyDict_GetItem(outputs.ptr(), name.ptr());
        demand(value != nullptr && nb::try_cast(nb::handle(value), array), "an output is absent");
        const size_t skip = array.ndim() == 4 && array.shape(0) == 1;
        demand(array.ndim() - skip == 3, "an output is not (1, H, W, C)");
        demand(int64_t(array.shape(skip + 2)) == channels, "an output has another number of channels");
        height = int64_t(array.shape(skip)), width = int64_t(array.shape(skip + 1));
    }

    template <typename T>
    const T* as() const {
        demand(array.dtype() == nb::dtype<T>(), "an output has another type");
        return static_cast<const T*>(array.data());
    }
};

// Outputs of one stride.
struct Triple {
    Plane classes, box, objectness;

    Triple(const nb::dict& outputs, const Names& names, int64_t count)
        : classes(outputs, std::get<0>(names), count), box(outputs, std::get<1>(names), 4),
          objectness(outputs, std::get<2>(names), 1) {
        for (const Plane* other : {&classes, &objectness})
            demand(other->height == box.height && other->width == box.width, "outputs differ in size");
    }

    template <typename T>
    lowwatt::Maps<T> maps() const {
        return {box.height, box.width, classes.as<T>(), box.as<T>(), objectness.as<T>()};
    }
};

class Postprocessor {
public:
    Postprocessor(const std::string& kind, const std::vector<int64_t>& strides, const std::vector<Names>& names,
                  int64_t classes, float conf, float iou, int64_t max_det,
                  const std::vector<std::optional<Tables>>& tables)
        : settings_{lowwatt::head_kind(kind), classes, conf, iou, max_det}, names_(names) {
        demand(classes > 0 && strides.size() == tables.size() && strides.size() == names.size(),
               "names and tables for each stride");
        for (size_t i = 0; i < strides.size(); ++i) {
            std::optional<lowwatt::HeadTables> own;
            if (tables[i]) {
                const auto& [classes_table, offset, size, objectness] = *tables[i];
                own = {copy(classes_table), copy(offset), copy(size), copy(objectness)};
            }
            strides_.emplace_back(settings_, strides[i], own);
        }
    }

    // Strides with tables take int8, the others float32; with `logits`, all take what is given.
    nb::tuple run(const nb::dict& outputs, const std::optional<Box>& box, bool logits) const {
        std::vector<Triple> triples;
        triples.reserve(names_.size());
        for (const Names& names : names_) triples.emplace_back(outputs, names, settings_.classes);
        std::vector<lowwatt::Candidate> found;
        found.reserve(usual_candidates);
        {
            nb::gil_scoped_release release;
            for (size_t i = 0; i < triples.size(); ++i) read(strides_[i], triples[i], logits, found);
            found = lowwatt::suppress(found, settings_.classes, settings_.iou, settings_.max_det);
            if (box) lowwatt::to_source(source(*box), found);
        }
        return arrays(found);
    }

private:
    static constexpr size_t usual_candidates = 512;

    static void read(const lowwatt::Stride& stride, const Triple& triple, bool logits,
                     std::vector<lowwatt::Candidate>& found) {
        const bool real = logits && triple.classes.array.dtype() == nb::dtype<float>();
        if (stride.integers() && !real)
            stride.read(triple.maps<int8_t>(), found);
        else
            stride.read(triple.maps<float>(), found);
    }

    static lowwatt::Source source(const Box& box) {
        const auto& [left, top, scale_x, scale_y, width, height] = box;
        return {{float(left), float(top)}, {float(scale_x), float(scale_y)}, {float(width), float(height)}};
    }

    static nb::tuple arrays(const std::vector<lowwatt::Candidate>& found) {
        auto xyxy = make_array<float>({found.size(), 4});
        auto score = make_array<float>({found.size()});
        auto label = make_array<int64_t>({found.size()});
        for (size_t i = 0; i < found.size(); ++i) {
            std::memcpy(xyxy.data() + 4 * i, found[i].box, sizeof found[i].box);
            score.data()[i] = found[i].score;
            label.data()[i] = found[i].label;
        }
        return nb::make_tuple(xyxy, score, label);
    }

    lowwatt::PostprocessSettings settings_;
    std::vector<Names> names_;
    std::vector<lowwatt::Stride> strides_;
};

void pad_quantize(In<uint8_t, 3> image, Table table, int pad,
                  nb::ndarray<int8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu> out, int64_t top, int64_t left) {
    const lowwatt::PadShape shape{int64_t(image.shape(0)), int64_t(image.shape(1)), int64_t(out.shape(0)),
                                  int64_t(out.shape(1)), int64_t(out.shape(2)), top, left};
    demand(int64_t(image.shape(2)) == shape.channels, "the image has another number of channels");
    demand(top >= 0 && left >= 0 && top + shape.height <= shape.out_height && left + shape.width <= shape.out_width,
           "the image does not fit");
    demand(pad >= 0 && pad < 256, "the padding is no pixel");
    nb::gil_scoped_release release;
    lowwatt::pad_quantize(image.data(), shape, table.data(), uint8_t(pad), out.data());
}

}  // namespace

void bind_frames(nb::module_& module) {
    nb::class_<Postprocessor>(module, "Postprocessor")
        .def(nb::init<const std::string&, const std::vector<int64_t>&, const std::vector<Names>&, int64_t, float, float,
                      int64_t, const std::vector<std::optional<Tables>>&>(),
             "kind"_a, "strides"_a, "names"_a, "classes"_a, "conf"_a, "iou"_a, "max_det"_a, "tables"_a)
        .def("run", &Postprocessor::run, "outputs"_a, "box"_a.none(), "logits"_a);
    module.def("pad_quantize", &pad_quantize, "image"_a, "table"_a, "pad"_a, "out"_a.noconvert(), "top"_a, "left"_a);
}
