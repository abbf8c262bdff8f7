// Arrays between Python and the kernels. Every array is C-contiguous.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <vector>

namespace nb = nanobind;

template <typename T, int Rank>
using In = nb::ndarray<const T, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
template <typename T>
using AnyRank = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <typename T>
using Out = nb::ndarray<nb::numpy, T>;
using Table = nb::ndarray<const int8_t, nb::shape<256>, nb::c_contig, nb::device::cpu>;

template <typename T>
Out<T> make_array(std::vector<size_t> shape) {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    T* data = new T[count];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Out<T>(data, shape.size(), shape.data(), owner);
}

inline void demand(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// Of the frames' two ends: images to inputs, outputs to boxes (module_frames.cpp).
void bind_frames(nb::module_& module);
