// The compiled core behind one Python module; here its integer kernels.
//
// Feature maps are (N, H, W, C) int8. The interpreter lock is released in the kernels.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>

#include "arrays.hpp"
#include "conv.hpp"
#include "elementwise.hpp"

using namespace nb::literals;

namespace {

using lowwatt::Epilogue;

using Pair = std::pair<int64_t, int64_t>;
using Pads = std::tuple<int64_t, int64_t, int64_t, int64_t>;

std::vector<size_t> shape_of(const AnyRank<int8_t>& x) {
    std::vector<size_t> shape;
    for (size_t i = 0; i < x.ndim(); ++i) shape.push_back(x.shape(i));
    return shape;
}

Epilogue make_epilogue(int shift, int low, int high, bool leaky) {
    demand(shift <= Epilogue::max_shift, "the shift is out of range");
    demand(!leaky || shift >= 1, "leaky relu needs a positive shift");
    return {shift, low, high, leaky};
}

lowwatt::ConvShape spatial(lowwatt::ConvShape shape, Pair stride, Pads pad, Pair dilation, Pair insert) {
    std::tie(shape.stride_h, shape.stride_w) = stride;
    std::tie(shape.top, shape.bottom, shape.left, shape.right) = pad;
    std::tie(shape.dilation_h, shape.dilation_w) = dilation;
    std::tie(shape.insert_h, shape.insert_w) = insert;
    const bool positive = shape.stride_h > 0 && shape.stride_w > 0 && shape.dilation_h > 0 && shape.dilation_w > 0 &&
                          shape.insert_h > 0 && shape.insert_w > 0;
    demand(positive, "strides and dilations must be positive");
    demand(shape.top >= 0 && shape.bottom >= 0 && shape.left >= 0 && shape.right >= 0, "pads must not be negative");
    return shape;
}

lowwatt::Convolution make_convolution(In<int8_t, 4> weights, In<int32_t, 1> bias, const Epilogue& epilogue,
                                      Pair stride, Pads pad, Pair dilation, Pair insert, int64_t groups,
                                      const std::string& kernel, const std::string& method, Pair size) {
    lowwatt::ConvShape shape{int64_t(weights.shape(0)), int64_t(weights.shape(1)), int64_t(weights.shape(2)),
                             int64_t(weights.shape(3))};
    shape.groups = groups;
    demand(weights.size() > 0 && groups > 0 && shape.out_channels % groups == 0, "groups do not divide the channels");
    demand(int64_t(bias.shape(0)) == shape.out_channels, "one bias for each output channel");
    return {weights.data(), bias.data(), spatial(shape, stride, pad, dilation, insert), epilogue,
            lowwatt::choose_kernel(kernel), method, {size.first, size.second}};
}

lowwatt::DepthwiseConvolution make_depthwise(In<int8_t, 4> weights, In<int32_t, 1> bias, const Epilogue& epilogue,
                                             Pair stride, Pads pad, Pair dilation) {
    const int64_t channels = int64_t(weights.shape(3));
    lowwatt::ConvShape shape{int64_t(weights.shape(0)) * channels, int64_t(weights.shape(1)),
                             int64_t(weights.shape(2)), 1};
    shape.groups = channels;
    demand(weights.size() > 0 && int64_t(bias.shape(0)) == shape.out_channels, "one bias for each output channel");
    return {weights.data(), bias.data(), spatial(shape, stride, pad, dilation, {1, 1}), epilogue};
}

template <typename Kernel>
Out<int8_t> run_convolution(const Kernel& kernel, In<int8_t, 4> x) {
    const auto& shape = kernel.shape();
    const int64_t height = int64_t(x.shape(1)), width = int64_t(x.shape(2));
    demand(int64_t(x.shape(3)) == shape.in_channels(), "the input has another number of channels");
    demand(height > 0 && width > 0, "the input is empty");
    demand(shape.padded_h(height) > (shape.kernel_h - 1) * shape.dilation_h &&
               shape.padded_w(width) > (shape.kernel_w - 1) * shape.dilation_w,
           "the kernel is larger than the padded input");
    auto out = make_array<int8_t>(
        {x.shape(0), size_t(shape.out_h(height)), size_t(shape.out_w(width)), size_t(shape.out_channels)});
    nb::gil_scoped_release release;
    kernel.run(x.data(), int64_t(x.shape(0)), height, width, out.data());
    return out;
}

Out<int8_t> lookup(AnyRank<int8_t> x, Table table) {
    auto out = make_array<int8_t>(shape_of(x));
    nb::gil_scoped_release release;
    lowwatt::lookup(x.data(), int64_t(x.size()), table.data(), out.data());
    return out;
}

Out<int8_t> add(const std::vector<AnyRank<int8_t>>& inputs, const std::vector<int>& drops, const Epilogue& epilogue) {
    demand(!inputs.empty() && inputs.size() == drops.size(), "one fix point for each input");
    std::vector<const int8_t*> data;
    for (size_t k = 0; k < inputs.size(); ++k) {
        demand(shape_of(inputs[k]) == shape_of(inputs[0]), "inputs differ in shape");
        demand(drops[k] >= 0, "the coarsest fix point must be the smallest");
        data.push_back(inputs[k].data());
    }
    auto out = make_array<int8_t>(shape_of(inputs[0]));
    nb::gil_scoped_release release;
    lowwatt::add(data, drops, int64_t(inputs[0].size()), epilogue, out.data());
    return out;
}

Out<int8_t> multiply(AnyRank<int8_t> x, AnyRank<int8_t> y, const Epilogue& epilogue) {
    demand(shape_of(x) == shape_of(y), "inputs differ in shape");
    auto out = make_array<int8_t>(shape_of(x));
    nb::gil_scoped_release release;
    lowwatt::multiply(x.data(), y.data(), int64_t(x.size()), epilogue, out.data());
    return out;
}

lowwatt::PoolShape pool_shape(const In<int8_t, 4>& x, Pair out, Pair kernel, Pair stride, Pair top_left) {
    demand(out.first > 0 && out.second > 0 && stride.first > 0 && stride.second > 0, "sides must be positive");
    demand(kernel.first > 0 && kernel.second > 0 && top_left.first >= 0 && top_left.second >= 0, "a wrong window");
    return {int64_t(x.shape(1)), int64_t(x.shape(2)), int64_t(x.shape(3)), out.first, out.second, kernel.first,
            kernel.second, stride.first, stride.second, top_left.first, top_left.second};
}

Out<int8_t> make_pool_output(const In<int8_t, 4>& x, Pair out) {
    return make_array<int8_t>({x.shape(0), size_t(out.first), size_t(out.second), x.shape(3)});
}

Out<int8_t> max_pool(In<int8_t, 4> x, Pair out_size, Pair kernel, Pair stride, Pair top_left) {
    const auto shape = pool_shape(x, out_size, kernel, stride, top_left);
    auto out = make_pool_output(x, out_size);
    nb::gil_scoped_release release;
    lowwatt::max_pool(x.data(), int64_t(x.shape(0)), shape, out.data());
    return out;
}

Out<int8_t> average_pool(In<int8_t, 4> x, Pair out_size, Pair kernel, Pair stride, Pair top_left, int32_t factor,
                         const Epilogue& epilogue) {
    const auto shape = pool_shape(x, out_size, kernel, stride, top_left);
    demand(int64_t(factor) * kernel.first * kernel.second <= int64_t(1) << 23, "the window is too large");
    auto out = make_pool_output(x, out_size);
    nb::gil_scoped_release release;
    lowwatt::average_pool(x.data(), int64_t(x.shape(0)), shape, factor, epilogue, out.data());
    return out;
}

Out<int8_t> concat(const std::vector<AnyRank<int8_t>>& inputs, const std::vector<std::optional<Table>>& tables,
                   size_t axis) {
    demand(!inputs.empty() && inputs.size() == tables.size(), "one table for each input");
    auto shape = shape_of(inputs[0]);
    demand(axis < shape.size(), "no such axis");
    size_t joined = 0, inner = 1, outer = 1;
    for (const auto& x : inputs) {
        auto other = shape_of(x);
        demand(other.size() == shape.size(), "inputs differ in rank");
        joined += other[axis];
        other[axis] = shape[axis];
        demand(other == shape, "inputs differ in shape");
    }
    for (size_t i = 0; i < axis; ++i) outer *= shape[i];
    for (size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    shape[axis] = joined;
    auto out = make_array<int8_t>(shape);
    nb::gil_scoped_release release;
    int8_t* to = out.data();
    for (size_t k = 0; k < inputs.size(); ++k) {
        const size_t block = inputs[k].shape(axis) * inner;
        const int8_t* table = tables[k] ? tables[k]->data() : nullptr;
        lowwatt::scatter(inputs[k].data(), int64_t(outer), int64_t(block), table, int64_t(joined * inner), to);
        to += block;
    }
    return out;
}

Out<int8_t> repeat(In<int8_t, 4> x, Pair scale) {
    demand(scale.first > 0 && scale.second > 0, "scales must be positive");
    const size_t rows = x.shape(0) * x.shape(1);
    auto out = make_array<int8_t>(
        {x.shape(0), x.shape(1) * size_t(scale.first), x.shape(2) * size_t(scale.second), x.shape(3)});
    nb::gil_scoped_release release;
    lowwatt::repeat(x.data(), int64_t(rows), int64_t(x.shape(2)), int64_t(x.shape(3)), scale.first, scale.second,
                    out.data());
    return out;
}

std::vector<std::string> kernels() {
    std::vector<std::string> names;
    for (const auto* kernel : lowwatt::available_kernels()) names.emplace_back(kernel->name);
    return names;
}

}  // namespace

NB_MODULE(_core, module) {
    module.doc() = "lowwatt's compiled core";
    nb::class_<Epilogue>(module, "Epilogue")
        .def("__init__", [](Epilogue* self, int shift, int low, int high,
                            bool leaky) { new (self) Epilogue(make_epilogue(shift, low, high, leaky)); },
             "shift"_a, "low"_a = -128, "high"_a = 127, "leaky"_a = false);
    nb::class_<lowwatt::Convolution>(module, "Convolution")
        .def("__call__", &run_convolution<lowwatt::Convolution>, "x"_a)
        .def_prop_ro("method", &lowwatt::Convolution::method);
    nb::class_<lowwatt::DepthwiseConvolution>(module, "DepthwiseConvolution")
        .def("__call__", &run_convolution<lowwatt::DepthwiseConvolution>, "x"_a);
    module.def("convolution", &make_convolution, "weights"_a, "bias"_a, "epilogue"_a, "stride"_a = Pair(1, 1),
               "pad"_a = Pads(0, 0, 0, 0), "dilation"_a = Pair(1, 1), "insert"_a = Pair(1, 1), "groups"_a = 1,
               "kernel"_a = "auto", "method"_a = "auto", "size"_a = Pair(0, 0));
    module.def("depthwise_convolution", &make_depthwise, "weights"_a, "bias"_a, "epilogue"_a,
               "stride"_a = Pair(1, 1), "pad"_a = Pads(0, 0, 0, 0), "dilation"_a = Pair(1, 1));
    module.def("lookup", &lookup, "x"_a, "table"_a);
    module.def("add", &add, "inputs"_a, "drops"_a, "epilogue"_a);
    module.def("multiply", &multiply, "x"_a, "y"_a, "epilogue"_a);
    module.def("max_pool", &max_pool, "x"_a, "out_size"_a, "kernel"_a, "stride"_a, "top_left"_a);
    module.def("average_pool", &average_pool, "x"_a, "out_size"_a, "kernel"_a, "stride"_a, "top_left"_a, "factor"_a,
               "epilogue"_a);
    module.def("concat", &concat, "inputs"_a, "tables"_a, "axis"_a);
    module.def("repeat", &repeat, "x"_a, "scale"_a);
    bind_frames(module);
    module.def("kernels", &kernels, "Convolution kernels that this processor can run; the last is the default.");
    module.def("isa", [] { return kernels().back(); }, "Name of the default convolution kernel.");
}
