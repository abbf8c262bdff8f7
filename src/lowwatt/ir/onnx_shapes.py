"""Reading ONNX: operators that move, join, cut and reshape, and reductions along axes."""

from __future__ import annotations

import math

import numpy as np

from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.ir.onnx_call import Call, Rule


def _concat(b: LayoutBuilder, call: Call) -> Value:
    values = [call.value(i) for i in range(len(call.inputs))]
    return b.concat(values, call.attrs["axis"], **call.names)


def _slice(b: LayoutBuilder, call: Call) -> Value:
    starts, ends = call.ints("starts", 1), call.ints("ends", 2)
    if starts is None or ends is None:
        call.refuse("it needs starts and ends")
    axes = call.ints("axes", 3) or list(range(len(starts)))
    steps = call.ints("steps", 4) or [1] * len(starts)
    shape = call.x.shape
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            call.refuse("a negative step has no counterpart")
        begin[axis], end[axis], stride[axis] = slice(first, last, step).indices(shape[axis])
    return b.slice(call.x, tuple(begin), tuple(end), tuple(stride), **call.names)


def _split(b: LayoutBuilder, call: Call) -> list[Value]:
    axis = call.attrs.get("axis", 0) % len(call.x.shape)
    size = call.x.shape[axis]
    share = -(-size // call.outputs)
    sizes = call.ints("split", 1) or [min(share, size - i * share) for i in range(call.outputs)]
    stops = np.cumsum(sizes)
    return [
        _range(b, call, f"{call.name}.{i}" if i else call.name, axis, int(stop - n), int(stop))
        for i, (n, stop) in enumerate(zip(sizes, stops, strict=True))
    ]


def _range(b: LayoutBuilder, call: Call, name: str, axis: int, start: int, stop: int, step: int = 1) -> Value:
    rank = len(call.x.shape)
    begin = tuple(start if i == axis else 0 for i in range(rank))
    end = tuple(stop if i == axis else n for i, n in enumerate(call.x.shape))
    strides = tuple(step if i == axis else 1 for i in range(rank))
    return b.slice(call.x, begin, end, strides, name=name, origin=call.origin)


def _gather(b: LayoutBuilder, call: Call) -> Value:
    indices = call.constant(1)
    axis = call.attrs.get("axis", 0) % len(call.x.shape)
    if indices is None or indices.ndim > 1:
        call.refuse("it needs constant indices of rank 0 or 1")
    if indices.ndim == 0:
        return b.select(call.x, axis, int(indices), **call.names)
    places = [int(i) % call.x.shape[axis] for i in indices]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or places != list(range(places[0], places[-1] + 1, step)):
        call.refuse("the indices must rise in even steps")
    return _range(b, call, call.name, axis, places[0], places[-1] + 1, step)


def _pad(b: LayoutBuilder, call: Call) -> Value:
    flat, value = call.ints("pads", 1), call.constant(2)
    if flat is None or call.attrs.get("mode", "constant") != "constant":
        call.refuse("only constant padding has a counterpart")
    rank = len(call.x.shape)
    axes = call.ints("axes", 3) or list(range(rank))
    pads = [(0, 0)] * rank
    for axis, before, after in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
        pads[axis] = (before, after)
    number = float(call.attrs.get("value", 0)) if value is None or not value.size else float(value.reshape(-1)[0])
    return b.pad(call.x, pads, value=number, **call.names)


def _reshape(b: LayoutBuilder, call: Call) -> Value:
    wanted = call.ints("shape", 1)
    if wanted is None:
        call.refuse("it needs a constant shape")
    keep = not call.attrs.get("allowzero", 0)
    shape = [call.x.shape[i] if n == 0 and keep else n for i, n in enumerate(wanted)]
    if -1 in shape:
        rest = math.prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = math.prod(call.x.shape) // max(rest, 1)
    return b.reshape(call.x, tuple(shape), **call.names)


def _flatten(b: LayoutBuilder, call: Call) -> Value:
    axis, shape = call.attrs.get("axis", 1), call.x.shape
    axis += len(shape) if axis < 0 else 0
    return b.reshape(call.x, (math.prod(shape[:axis]), math.prod(shape[axis:])), **call.names)


def _squeeze(b: LayoutBuilder, call: Call) -> Value:
    shape, axes = call.x.shape, call.ints("axes", 1)
    gone = {i for i, n in enumerate(shape) if n == 1} if axes is None else {a % len(shape) for a in axes}
    return b.reshape(call.x, tuple(n for i, n in enumerate(shape) if i not in gone), **call.names)


def _unsqueeze(b: LayoutBuilder, call: Call) -> Value:
    axes = call.ints("axes", 1) or []
    rank = len(call.x.shape) + len(axes)
    shape = list(call.x.shape)
    for axis in sorted(a % rank for a in axes):
        shape.insert(axis, 1)
    return b.reshape(call.x, tuple(shape), **call.names)


def _transpose(b: LayoutBuilder, call: Call) -> Value:
    order = call.ints("perm") or list(range(len(call.x.shape)))[::-1]
    return b.transpose(call.x, tuple(order), **call.names)


def _reduce(op: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        axes = call.ints("axes", 1) or list(range(len(call.x.shape)))
        return b.reduce(op, call.x, axes, bool(call.attrs.get("keepdims", 1)), **call.names)

    return rule


def _depth_to_space(b: LayoutBuilder, call: Call) -> Value:
    (batch, channels, rows, columns), size = call.x.shape, call.attrs["blocksize"]
    depth = channels // size**2
    column_first = call.attrs.get("mode", "DCR") == "DCR"
    split = (batch, size, size, depth, rows, columns) if column_first else (batch, depth, size, size, rows, columns)
    order = (0, 3, 4, 1, 5, 2) if column_first else (0, 1, 4, 2, 5, 3)
    turned = b.transpose(b.reshape(call.x, split, name=f"{call.name}.split"), order, name=f"{call.name}.turn")
    return b.reshape(turned, (batch, depth, rows * size, columns * size), **call.names)


def _space_to_depth(b: LayoutBuilder, call: Call) -> Value:
    (batch, channels, rows, columns), size = call.x.shape, call.attrs["blocksize"]
    split = b.reshape(call.x, (batch, channels, rows // size, size, columns // size, size), name=f"{call.name}.split")
    turned = b.transpose(split, (0, 3, 5, 1, 2, 4), name=f"{call.name}.turn")
    return b.reshape(turned, (batch, channels * size**2, rows // size, columns // size), **call.names)


def _same(b: LayoutBuilder, call: Call) -> Value:
    return call.x


def _cast(b: LayoutBuilder, call: Call) -> Value:
    if call.attrs["to"] not in (1, 10, 11, 16):  # float, float16, double, bfloat16
        call.refuse("only casts between kinds of float have a counterpart")
    return call.x


def _expand(b: LayoutBuilder, call: Call) -> Value:
    shape = call.ints("shape", 1) or []
    if np.broadcast_shapes(call.x.shape, tuple(shape)) != call.x.shape:
        call.refuse("repetition has no counterpart")
    return call.x


SHAPE_RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "ReduceMean": _reduce("reduce_mean"),
    "ReduceMax": _reduce("reduce_max"),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Expand": _expand,
}
"""ONNX operator → rule."""
