"""Operators over whole axes: means, maxima, softmax, batch normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import Integers, move, reciprocal, requantize
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import axis, fail, integers, same_shape
from lowwatt.ir.opspec import REQUIRED, IntTensor, OpSpec
from lowwatt.types import Array, QuantParams, Shape


def reduced_axes(node: Node, rank: int) -> tuple[int, ...]:
    """The axes that go, counted from the front, ascending."""
    axes = sorted({axis(node, a, rank) for a in integers(node, "axes")})
    if not axes:
        raise fail(node, "names no axis")
    return tuple(axes)


def _reduce_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    axes = reduced_axes(node, len(shapes[0]))
    if node.attrs["keepdims"]:
        return tuple(1 if i in axes else n for i, n in enumerate(shapes[0]))
    return tuple(n for i, n in enumerate(shapes[0]) if i not in axes)


def _softmax_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    axis(node, node.attrs["axis"], len(shapes[0]))
    return same_shape(node, shapes)


def _batch_norm_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    if not shapes[0] or any(tuple(s) != (shapes[0][-1],) for s in shapes[1:]):
        raise fail(node, "needs one scale, bias, mean and variance a channel", f"input {shapes[0]}, {shapes[1:]}")
    return same_shape(node, shapes)


def _torch_mean(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return torch.mean(operands[0], dim=tuple(node.attrs["axes"]), keepdim=bool(node.attrs["keepdims"]))


def _torch_max(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return torch.amax(operands[0], dim=tuple(node.attrs["axes"]), keepdim=bool(node.attrs["keepdims"]))


def _torch_softmax(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return torch.softmax(operands[0], dim=node.attrs["axis"])


def _torch_batch_norm(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x, scale, bias, mean, variance = operands
    factor = scale * torch.rsqrt(variance + node.attrs["eps"])
    return x * factor + (bias - mean * factor)


def _real_mean(node: Node, operands: Sequence[Array]) -> Array:
    axes = reduced_axes(node, operands[0].ndim)
    return np.asarray(operands[0].mean(axis=axes, keepdims=bool(node.attrs["keepdims"])))


def _real_max(node: Node, operands: Sequence[Array]) -> Array:
    axes = reduced_axes(node, operands[0].ndim)
    return np.asarray(operands[0].max(axis=axes, keepdims=bool(node.attrs["keepdims"])))


def _real_softmax(node: Node, operands: Sequence[Array]) -> Array:
    x, along = operands[0], node.attrs["axis"]
    powers = np.exp(x - x.max(axis=along, keepdims=True))
    return np.asarray(powers / powers.sum(axis=along, keepdims=True))


def _real_batch_norm(node: Node, operands: Sequence[Array]) -> Array:
    x, scale, bias, mean, variance = operands
    factor = scale / np.sqrt(variance + node.attrs["eps"])
    return np.asarray(x * factor + (bias - mean * factor))


def _integer_mean(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """Sum times the reciprocal of each axis, multiplied over the axes (docs/dpu.md 3.6)."""
    x = operands[0]
    axes = reduced_axes(node, x.values.ndim)
    factors = [reciprocal(x.values.shape[a]) for a in axes]
    total = x.values.sum(axis=axes, dtype=np.float64, keepdims=bool(node.attrs["keepdims"]))
    scaled = total * math.prod(n for n, _ in factors)
    digits = sum(m for _, m in factors)
    return requantize(np.ldexp(scaled, out.fix_point - x.quant.fix_point - digits), out)


def _integer_max(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    x = operands[0]
    axes = reduced_axes(node, x.values.ndim)
    return move(x.values.max(axis=axes, keepdims=bool(node.attrs["keepdims"])), x.quant.fix_point, out)


_REDUCE_ATTRS = {"axes": REQUIRED, "keepdims": REQUIRED}

SPECS = [
    OpSpec("reduce_mean", _reduce_shape, _REDUCE_ATTRS, (1, 1), _integer_mean, _real_mean, _torch_mean),
    OpSpec("reduce_max", _reduce_shape, _REDUCE_ATTRS, (1, 1), _integer_max, _real_max, _torch_max),
    OpSpec("softmax", _softmax_shape, {"axis": REQUIRED}, real=_real_softmax, torch=_torch_softmax),
    OpSpec("batch_norm", _batch_norm_shape, {"eps": 1e-5}, (5, 5), real=_real_batch_norm, torch=_torch_batch_norm),
]
