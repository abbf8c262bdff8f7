"""Operators that move elements without computing: concat, slice, pad, reshape, transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import Integers, move, quantize
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import axis, fail, integers
from lowwatt.ir.opspec import REQUIRED, IntTensor, OpSpec
from lowwatt.types import Array, QuantParams, Shape

_MANY = 1 << 16


def _concat_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    first = shapes[0]
    along = axis(node, node.attrs["axis"], len(first))
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != along
        ):
            raise fail(node, f"the inputs must agree in all but axis {along}", f"{first} and {shape}")
    return tuple(sum(s[i] for s in shapes) if i == along else n for i, n in enumerate(first))


def slices(node: Node, shape: Shape) -> tuple[slice, ...]:
    """The slice of each dimension, begin and end counted as Python does (negative: from the end)."""
    rank = len(shape)
    begin, end = integers(node, "begin", rank), integers(node, "end", rank)
    strides = integers(node, "strides", rank, 1)
    return tuple(slice(*slice(b, e, s).indices(n)) for b, e, s, n in zip(begin, end, strides, shape, strict=True))


def _slice_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    sizes = tuple(len(range(s.start, s.stop, s.step)) for s in slices(node, shapes[0]))
    if 0 in sizes:
        raise fail(node, "takes nothing", f"input {shapes[0]}, begin {node.attrs['begin']}, end {node.attrs['end']}")
    return sizes


def pad_widths(node: Node, shape: Shape) -> list[tuple[int, int]]:
    """(begin, end) padding of each dimension."""
    flat = integers(node, "pads", 2 * len(shape), 0)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pad_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    widths = pad_widths(node, shapes[0])
    if node.attrs["mode"] not in ("constant", "symmetric"):
        raise fail(node, f"unknown mode {node.attrs['mode']!r}", hint="known: constant, symmetric")
    return tuple(n + before + after for n, (before, after) in zip(shapes[0], widths, strict=True))


def _reshape_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    shape = integers(node, "shape", least=1)
    if math.prod(shape) != math.prod(shapes[0]):
        raise fail(node, f"cannot make {shape} of {shapes[0]}", "the numbers of elements differ")
    return shape


def _transpose_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    order = integers(node, "order", len(shapes[0]))
    if sorted(order) != list(range(len(order))):
        raise fail(node, f"order {order} is no order of the dimensions")
    return tuple(shapes[0][i] for i in order)


def _torch_concat(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return torch.cat(list(operands), dim=node.attrs["axis"])


def _torch_slice(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x = operands[0]
    taken = slices(node, tuple(x.shape))
    if x.shape[0] > 1 and taken[0] == slice(0, 1, 1):
        taken = (slice(None), *taken[1:])  # made for one image, run on a batch
    return x[taken]


def _torch_pad(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x = operands[0]
    widths = pad_widths(node, tuple(x.shape))
    if node.attrs["mode"] == "constant":
        flat = [n for before_after in reversed(widths) for n in before_after]
        return torch.nn.functional.pad(x, flat, value=float(node.attrs["value"]))
    for dim, width in enumerate(widths):
        index = torch.as_tensor(np.pad(np.arange(x.shape[dim]), width, mode="symmetric"), device=x.device)
        x = x.index_select(dim, index)
    return x


def _torch_reshape(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    # a batch other than the graph's own passes through the first dimension
    shape = list(node.attrs["shape"])
    if operands[0].numel() != math.prod(shape):
        shape[0] = -1
    return operands[0].reshape(shape)


def _torch_transpose(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return operands[0].permute(*node.attrs["order"])


def _real_concat(node: Node, operands: Sequence[Array]) -> Array:
    return np.concatenate(operands, axis=node.attrs["axis"])


def _real_slice(node: Node, operands: Sequence[Array]) -> Array:
    return operands[0][slices(node, operands[0].shape)]


def _real_pad(node: Node, operands: Sequence[Array]) -> Array:
    widths = pad_widths(node, operands[0].shape)
    if node.attrs["mode"] == "symmetric":
        return np.pad(operands[0], widths, mode="symmetric")
    return np.pad(operands[0], widths, constant_values=node.attrs["value"])


def _real_reshape(node: Node, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(node.attrs["shape"])


def _real_transpose(node: Node, operands: Sequence[Array]) -> Array:
    return operands[0].transpose(node.attrs["order"])


def _integer_concat(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """Each input moved to the output's fix point by R() (docs/dpu.md 3.4)."""
    return np.concatenate([move(x.values, x.quant.fix_point, out) for x in operands], axis=node.attrs["axis"])


def _integer_slice(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    x = operands[0]
    return move(x.values[slices(node, x.values.shape)], x.quant.fix_point, out)


def _integer_pad(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    x = operands[0]
    widths = pad_widths(node, x.values.shape)
    if node.attrs["mode"] == "symmetric":
        return move(np.pad(x.values, widths, mode="symmetric"), x.quant.fix_point, out)
    value = quantize(np.array(node.attrs["value"]), out)
    return np.pad(move(x.values, x.quant.fix_point, out), widths, constant_values=int(value))


def _integer_reshape(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    return move(operands[0].values.reshape(node.attrs["shape"]), operands[0].quant.fix_point, out)


def _integer_transpose(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    return move(operands[0].values.transpose(node.attrs["order"]), operands[0].quant.fix_point, out)


_PAD_ATTRS = {"pads": REQUIRED, "mode": "constant", "value": 0.0}
_SLICE_ATTRS = {"begin": REQUIRED, "end": REQUIRED, "strides": REQUIRED}

SPECS = [
    OpSpec("concat", _concat_shape, {"axis": REQUIRED}, (1, _MANY), _integer_concat, _real_concat, _torch_concat),
    OpSpec("slice", _slice_shape, _SLICE_ATTRS, (1, 1), _integer_slice, _real_slice, _torch_slice),
    OpSpec("pad", _pad_shape, _PAD_ATTRS, (1, 1), _integer_pad, _real_pad, _torch_pad),
    OpSpec("reshape", _reshape_shape, {"shape": REQUIRED}, (1, 1), _integer_reshape, _real_reshape, _torch_reshape),
    OpSpec(
        "transpose",
        _transpose_shape,
        {"order": REQUIRED},
        (1, 1),
        _integer_transpose,
        _real_transpose,
        _torch_transpose,
    ),
]
