"""LayoutBuilder: builds our NHWC Graph from a source that thinks in NCHW (ONNX, torch).

The one place that knows how layouts map. A reader speaks in the source's own terms (axes, pads, OIHW weights);
the builder stores feature maps NHWC, turns weights and axes, and puts a `transpose` in only where the order of
elements matters: before a reshape, a product along the last axis, or any operator that mixes axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.types import Array, Shape

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
_STORED = {0: 0, 1: 3, 2: 1, 3: 2}
"""Axis of NCHW → axis of NHWC."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value as the source sees it. `channels_last`: stored NHWC, while `shape` is the source's NCHW.

    `data` is set for constants, in the source's order; they enter the graph when an operator reads them.
    """

    name: str
    shape: Shape
    channels_last: bool = False
    data: Array | None = None


class LayoutBuilder:
    """Builds a Graph out of operators stated in NCHW terms; every method returns the new Value.

    `name` of a method is the wanted name of the node (made unique), `origin` the user's layer.

    >>> b = LayoutBuilder("tiny")
    >>> x = b.input("image", (1, 3, 8, 8))
    >>> y = b.conv(x, np.zeros((4, 3, 3, 3), np.float32), None, name="conv", pad=(1, 1, 1, 1))
    >>> y.shape, b.graph.tensor("conv").shape
    ((1, 4, 8, 8), (1, 8, 8, 4))
    """

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self._relaid: dict[tuple[str, str], str] = {}
        self._layouts: dict[str, str] = {}

    # -- values -------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Shape, nchw: bool = True) -> Value:
        """Graph input; of rank 4 it becomes NHWC, unless the source has it so already (`nchw` False)."""
        last = nchw and len(shape) == 4
        self.graph.add_input(name, _permute(shape, TO_NHWC) if last else shape)
        self._layouts.update({name: "NCHW"} if last else {})
        return Value(name, shape, last)

    def constant(self, name: str, data: Array) -> Value:
        """A constant, in the source's order."""
        return Value(name, data.shape, False, data)

    def unique(self, name: str) -> str:
        """`name`, or the first of name_1, name_2, … that is free."""
        number, candidate = 0, name
        while candidate in self.graph.tensors:
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def stored(self, value: Value) -> str:
        """Graph name of the value as it is stored."""
        return value.name if value.data is None else self._add_constant(value.name, value.data)

    def nhwc(self, value: Value) -> str:
        """Graph name of a rank-4 value in NHWC, transposed if need be."""
        if value.channels_last:
            return value.name
        if len(value.shape) != 4:
            raise ToolError("a feature map must have four dimensions", where=value.name, why=f"shape {value.shape}")
        if value.data is not None:
            return self._add_constant(value.name, value.data.transpose(TO_NHWC))
        return self._relay(value.name, "nhwc", TO_NHWC)

    def source(self, value: Value) -> str:
        """Graph name of the value in the source's own order, transposed if need be."""
        return self._relay(value.name, "nchw", TO_NCHW) if value.channels_last else self.stored(value)

    def finish(self, outputs: Sequence[tuple[str | None, Value]]) -> Graph:
        """Declare the outputs (name, value), drop what they do not need and return the verified graph.

        An output without a name takes its node's. `meta["source_layout"]` holds "NCHW" for each input and output
        that the source sees as NCHW.
        """
        for wanted, value in outputs:
            name = self._output(wanted, value)
            self._layouts.update({name: "NCHW"} if value.channels_last else {})
        self.graph.meta["source_layout"] = self._layouts
        self.graph.prune()
        return self.graph.verify()

    def _output(self, wanted: str | None, value: Value) -> str:
        """The node itself takes the output's name; inputs, constants and what goes out twice are copied."""
        name = self.stored(value)
        copied = name in self.graph.inputs or name in self.graph.outputs or value.data is not None
        if wanted is None:
            wanted = self.unique(name) if copied else name
        if wanted in self.graph.tensors and (copied or wanted != name):
            raise ToolError("an output has the name of another tensor", where=wanted)
        if copied:
            self.graph.add("identity", [name], wanted)
        else:
            self.graph.rename(name, wanted)
        self.graph.outputs.append(wanted)
        return wanted

    def _relay(self, name: str, layout: str, order: Shape) -> str:
        key = (name, layout)
        if key not in self._relaid:
            self._relaid[key] = self.graph.add("transpose", [name], self.unique(f"{name}.{layout}"), order=order)
        return self._relaid[key]

    def _add_constant(self, name: str, data: Array) -> str:
        """Add a constant once; a second use in another shape or order gets a name of its own."""
        data = np.array(data, np.float32, order="C")
        known = self.graph.tensors.get(name)
        while known is not None and not (known.data is not None and np.array_equal(known.data, data)):
            name = self.unique(name)
            known = self.graph.tensors.get(name)
        return name if known is not None else self.graph.add_constant(name, data)

    def _add(self, op: str, inputs: Sequence[str], name: str, origin: str, channels_last: bool, **attrs: Any) -> Value:
        made = self.graph.add(op, inputs, self.unique(name), origin=origin or name, **attrs)
        shape = self.graph.tensor(made).shape
        return Value(made, _permute(shape, TO_NCHW) if channels_last else shape, channels_last)

    # -- layers with weights --------------------------------------------------------------------------------

    def conv(
        self,
        x: Value,
        weights: Array,
        bias: Array | None,
        *,
        name: str,
        origin: str = "",
        stride: Shape = (1, 1),
        pad: Shape = (0, 0, 0, 0),
        dilation: Shape = (1, 1),
        group: int = 1,
        parameter: str = "",
    ) -> Value:
        """Convolution with OIHW weights; depthwise where every channel is its own group.

        `pad` is (top, bottom, left, right); `parameter` the weights' name (default: name.weight).
        """
        attrs: dict[str, Any] = {"stride": tuple(stride), "pad": tuple(pad), "dilation": tuple(dilation)}
        channels = x.shape[1] if len(x.shape) == 4 else 0
        if group == channels and group > 1:
            op, laid = "depthwise_conv2d", depthwise_weights(weights, group)
        else:
            op, laid, attrs["group"] = "conv2d", weights.transpose(TO_NHWC), group
        inputs = [self.nhwc(x), *self._parameters(name, laid, bias, parameter)]
        return self._add(op, inputs, name, origin, True, **attrs)

    def transposed_conv(
        self,
        x: Value,
        weights: Array,
        bias: Array | None,
        *,
        name: str,
        origin: str = "",
        stride: Shape = (1, 1),
        pad: Shape = (0, 0, 0, 0),
        parameter: str = "",
    ) -> Value:
        """Transposed convolution with torch's IOHW weights; `pad` as torch states it, less output padding."""
        laid = weights.transpose(1, 2, 3, 0)[:, ::-1, ::-1, :]
        inputs = [self.nhwc(x), *self._parameters(name, laid, bias, parameter)]
        return self._add("transposed_conv2d", inputs, name, origin, True, stride=tuple(stride), pad=tuple(pad))

    def linear(
        self,
        x: Value,
        weights: Array,
        bias: Array | None,
        *,
        name: str,
        origin: str = "",
        parameter: str = "",
    ) -> Value:
        """Product along the last axis with weights [out, in]."""
        inputs = [self.source(x), *self._parameters(name, weights, bias, parameter)]
        return self._add("linear", inputs, name, origin, False)

    def batch_norm(self, x: Value, parameters: Sequence[Array], *, eps: float, name: str, origin: str = "") -> Value:
        """Batch norm over axis 1; `parameters` are scale, bias, mean and variance."""
        last = len(x.shape) == 4
        if not last and len(x.shape) != 2:
            raise ToolError("batch norm needs rank 2 or 4", where=name, why=f"shape {x.shape}")
        words = ("weight", "bias", "running_mean", "running_var")
        inputs = [self.nhwc(x) if last else self.stored(x)]
        inputs += [self._add_constant(f"{name}.{w}", p) for w, p in zip(words, parameters, strict=True)]
        return self._add("batch_norm", inputs, name, origin, last, eps=float(eps))

    def _parameters(self, name: str, weights: Array, bias: Array | None, parameter: str) -> list[str]:
        stem = parameter.removesuffix(".weight") or name
        names = [self._add_constant(parameter or f"{name}.weight", weights)]
        return names if bias is None else [*names, self._add_constant(f"{stem}.bias", bias)]

    # -- element by element ---------------------------------------------------------------------------------

    def unary(self, op: str, x: Value, *, name: str, origin: str = "", **attrs: Any) -> Value:
        """An operator of each element alone, in whatever order the value is stored."""
        return self._add(op, [self.stored(x)], name, origin, x.channels_last, **attrs)

    def clip(self, x: Value, low: float, high: float, *, name: str, origin: str = "") -> Value:
        """Clip; relu and relu6 where the limits are theirs."""
        if low == 0 and high in (6, math.inf):
            return self.unary("relu6" if high == 6 else "relu", x, name=name, origin=origin)
        return self.unary("clip", x, name=name, origin=origin, min=float(low), max=float(high))

    def elementwise(self, op: str, operands: Sequence[Value], *, name: str, origin: str = "") -> Value:
        """add, mul, sub, div or pow with NumPy's broadcasting in the source's order."""
        if not any(v.channels_last for v in operands):
            return self._add(op, [self.stored(v) for v in operands], name, origin, False)
        if max(len(v.shape) for v in operands) > 4:
            return self._add(op, [self.source(v) for v in operands], name, origin, False)
        return self._add(op, [self.nhwc(self._lift(v)) for v in operands], name, origin, True)

    def _lift(self, value: Value) -> Value:
        """The value with leading dimensions of one, up to rank 4."""
        if len(value.shape) == 4:
            return value
        shape = (1,) * (4 - len(value.shape)) + value.shape
        if value.data is not None:
            return replace(value, shape=shape, data=value.data.reshape(shape))
        return self.reshape(value, shape, name=f"{value.name}.rank4")

    # -- windows and space ----------------------------------------------------------------------------------

    def pool(self, op: str, x: Value, *, name: str, origin: str = "", **attrs: Any) -> Value:
        """max_pool or avg_pool; attributes as the operator's own."""
        return self._add(op, [self.nhwc(x)], name, origin, True, **attrs)

    def global_pool(self, op: str, x: Value, *, name: str, origin: str = "") -> Value:
        """Pool over the whole map."""
        return self.pool(op, x, name=name, origin=origin, kernel=x.shape[2:], stride=x.shape[2:])

    def resize(self, x: Value, scale: tuple[float, float], *, name: str, origin: str = "", **attrs: Any) -> Value:
        """Resize by (height, width) factors."""
        return self._add("resize", [self.nhwc(x)], name, origin, True, scale=tuple(scale), **attrs)

    # -- axes and shapes ------------------------------------------------------------------------------------

    def axis(self, x: Value, axis: int) -> int:
        """Stored axis of a source axis, negative ones counted from the end."""
        if not -len(x.shape) <= axis < len(x.shape):
            raise ToolError("there is no such axis", where=x.name, why=f"axis {axis} of shape {x.shape}")
        axis %= len(x.shape)
        return _STORED[axis] if x.channels_last else axis

    def concat(self, values: Sequence[Value], axis: int, *, name: str, origin: str = "") -> Value:
        """Concatenate along a source axis."""
        last = any(v.channels_last for v in values)
        inputs = [self.nhwc(v) if last else self.stored(v) for v in values]
        stored = self.axis(replace(values[0], channels_last=last), axis)
        return self._add("concat", inputs, name, origin, last, axis=stored)

    def slice(self, x: Value, begin: Shape, end: Shape, strides: Shape, *, name: str, origin: str = "") -> Value:
        """Slice with one number per source dimension; ends are clipped to the shape."""
        end = tuple(min(e, size) for e, size in zip(end, x.shape, strict=True))
        if (begin[0], end[0], strides[0]) != (0, x.shape[0], 1):
            return self._slice_first(x, begin, end, strides, name, origin)
        attrs = {"begin": begin, "end": end, "strides": strides}
        attrs = {key: self._per_axis(x, numbers) for key, numbers in attrs.items()}
        return self._add("slice", [self.stored(x)], name, origin, x.channels_last, **attrs)

    def _slice_first(self, x: Value, begin: Shape, end: Shape, strides: Shape, name: str, origin: str) -> Value:
        """Axis 0 is the batch to every operator, so a slice of it happens behind a batch of one."""
        batched = self.reshape(x, (1, *x.shape), name=f"{name}.batched", origin=origin)
        cut = self.slice(batched, (0, *begin), (1, *end), (1, *strides), name=f"{name}.cut", origin=origin)
        return self.reshape(cut, cut.shape[1:], name=name, origin=origin)

    def select(self, x: Value, axis: int, index: int, *, name: str, origin: str = "") -> Value:
        """One index of a source axis; the axis goes away."""
        size = x.shape[axis]
        index += size if index < 0 else 0
        begin, end = [0] * len(x.shape), list(x.shape)
        begin[axis], end[axis] = index, index + 1
        kept = self.slice(x, tuple(begin), tuple(end), (1,) * len(end), name=f"{name}.slice", origin=origin)
        shape = tuple(s for i, s in enumerate(x.shape) if i != axis % len(x.shape))
        return self.reshape(kept, shape, name=name, origin=origin)

    def pad(self, x: Value, pads: Sequence[tuple[int, int]], *, name: str, origin: str = "", **attrs: Any) -> Value:
        """Pad with a (begin, end) pair per source dimension."""
        flat = tuple(n for pair in self._per_axis(x, tuple(pads)) for n in pair)
        return self._add("pad", [self.stored(x)], name, origin, x.channels_last, pads=flat, **attrs)

    def softmax(self, x: Value, axis: int, *, name: str, origin: str = "") -> Value:
        """Softmax along a source axis."""
        return self.unary("softmax", x, name=name, origin=origin, axis=self.axis(x, axis))

    def reduce(self, op: str, x: Value, axes: Sequence[int], keepdims: bool, *, name: str, origin: str = "") -> Value:
        """reduce_mean or reduce_max along source axes."""
        axes = sorted(a % len(x.shape) for a in axes)
        rest = [_STORED[a] for a in range(4) if a not in axes] if x.channels_last else []
        if keepdims or rest == sorted(rest):
            stored = tuple(sorted(self.axis(x, a) for a in axes))
            last = x.channels_last and keepdims
            return self._add(op, [self.stored(x)], name, origin, last, axes=stored, keepdims=keepdims)
        return self._add(op, [self.source(x)], name, origin, False, axes=tuple(axes), keepdims=False)

    def reshape(self, x: Value, shape: Shape, *, name: str, origin: str = "") -> Value:
        """Reshape in the source's order of elements."""
        return self._add("reshape", [self.source(x)], name, origin, False, shape=tuple(shape))

    def transpose(self, x: Value, order: Shape, *, name: str, origin: str = "") -> Value:
        """Permute source axes. To turn a map that is stored NHWC into NHWC costs nothing, nor does the way back."""
        shape = _permute(x.shape, order)
        if x.channels_last and tuple(order) == TO_NHWC:
            return Value(x.name, shape, False)
        if not x.channels_last and x.data is None and tuple(order) == TO_NCHW:
            return Value(x.name, shape, True)
        stored = tuple(self.axis(x, axis) for axis in order)
        return self._add("transpose", [self.stored(x)], name, origin, False, order=stored)

    def _per_axis(self, x: Value, numbers: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(numbers[i] for i in TO_NHWC) if x.channels_last else tuple(numbers)


def depthwise_weights(weights: Array, channels: int) -> Array:
    """[C*mult, 1, kh, kw] → [mult, kh, kw, C]; output channel c*mult + m.

    >>> depthwise_weights(np.zeros((6, 1, 3, 5)), 3).shape
    (2, 3, 5, 3)
    """
    split: Array = weights.reshape(channels, -1, *weights.shape[2:]).transpose(1, 2, 3, 0)
    return split


def _permute(shape: Shape, order: Shape) -> Shape:
    return tuple(shape[axis] for axis in order)
