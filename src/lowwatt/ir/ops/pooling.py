"""Pooling over windows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import Integers, Reals, dpu_average_factor, move, requantize
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import Pads, fail, feature_map, pads, pair, windows
from lowwatt.ir.opspec import REQUIRED, IntTensor, OpSpec
from lowwatt.types import Array, QuantParams, Shape

_ATTRS = {"kernel": REQUIRED, "stride": REQUIRED, "pad": (0, 0, 0, 0), "ceil_mode": False}


def _pool_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    batch, height, width, channels = feature_map(node, shapes[0])
    (kh, kw), (sh, sw) = pair(node, "kernel"), pair(node, "stride")
    top, bottom, left, right = pads(node)
    if max(top, bottom) >= kh or max(left, right) >= kw:
        raise fail(node, "the padding must be smaller than the window", f"pad {pads(node)}, kernel {(kh, kw)}")
    ceil = bool(node.attrs["ceil_mode"])
    rows = windows(node, height, kh, sh, top, bottom, ceil)
    return batch, rows, windows(node, width, kw, sw, left, right, ceil), channels


def reach(node: Node, shape: Shape) -> Pads:
    """Padding (top, bottom, left, right) that the windows touch; ceil mode may ask for more than `pad`."""
    _, rows, columns, _ = _pool_shape(node, [shape])
    (kh, kw), (sh, sw) = pair(node, "kernel"), pair(node, "stride")
    top, bottom, left, right = pads(node)
    need_bottom = (rows - 1) * sh + kh - top - shape[1]
    need_right = (columns - 1) * sw + kw - left - shape[2]
    return top, max(bottom, need_bottom), left, max(right, need_right)


def _torch_padded(torch: Any, x: Any, pad: Pads, value: float) -> Any:
    top, bottom, left, right = pad
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=value) if any(pad) else x


def _torch_max(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x = operands[0].permute(0, 3, 1, 2)
    kernel, stride = pair(node, "kernel"), pair(node, "stride")
    top, bottom, left, right = pad = reach(node, tuple(operands[0].shape))
    if top == bottom <= kernel[0] // 2 and left == right <= kernel[1] // 2:
        out = torch.nn.functional.max_pool2d(x, kernel, stride, (top, left))
    else:
        out = torch.nn.functional.max_pool2d(_torch_padded(torch, x, pad, -torch.inf), kernel, stride)
    return out.permute(0, 2, 3, 1)


def _torch_average(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    """Plain mean; the divisor counts `pad` where `count_include_pad`, but never what ceil mode adds."""
    x = operands[0].permute(0, 3, 1, 2)
    kernel, stride = pair(node, "kernel"), pair(node, "stride")
    pad, touched = pads(node), reach(node, tuple(operands[0].shape))
    mean = torch.nn.functional.avg_pool2d(_torch_padded(torch, x, touched, 0.0), kernel, stride)
    counted = pad if node.attrs["count_include_pad"] else (0, 0, 0, 0)
    if counted != touched:
        excess = tuple(t - c for t, c in zip(touched, counted, strict=True))
        ones = _torch_padded(torch, torch.ones_like(x[:1, :1]), _as_pads(counted), 1.0)
        mean = mean / torch.nn.functional.avg_pool2d(_torch_padded(torch, ones, _as_pads(excess), 0.0), kernel, stride)
    return mean.permute(0, 2, 3, 1)


def _as_pads(values: Sequence[int]) -> Pads:
    top, bottom, left, right = values
    return top, bottom, left, right


def _windows(node: Node, values: Array, fill: float, combine: Callable[[Reals, Reals], Reals]) -> Reals:
    """All values of each window brought together by `combine`; `fill` stands for the padding."""
    return functools.reduce(combine, _taps(node, values.shape, _padded(values, reach(node, values.shape), fill)))


def _padded(values: Array, pad: Pads, fill: float) -> Reals:
    top, bottom, left, right = pad
    return np.pad(values.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def _taps(node: Node, shape: Shape, padded: Reals) -> Iterator[Reals]:
    """For each position of the kernel what all windows see there; `shape` is that of the map without padding."""
    _, rows, columns, _ = _pool_shape(node, [shape])
    (kh, kw), (sh, sw) = pair(node, "kernel"), pair(node, "stride")
    for i in range(kh):
        for j in range(kw):
            yield padded[:, i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw]


def _integer_max(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """The greatest, then R(); padding never wins (docs/dpu.md 3.4)."""
    x = operands[0]
    return move(_windows(node, x.values, x.quant.qmin, np.maximum), x.quant.fix_point, out)


def _integer_average(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """R(sum * N/2**M * 2**(fo - fi)); padding is 0, the divisor never shrinks (docs/dpu.md 3.6)."""
    if any(pads(node)) and not node.attrs["count_include_pad"]:
        raise fail(node, "count_include_pad False", "the DPU divides by the whole window, padding included")
    factor, digits = dpu_average_factor(pair(node, "kernel"))
    total = _windows(node, operands[0].values, 0, np.add) * factor
    return requantize(np.ldexp(total, out.fix_point - operands[0].quant.fix_point - digits), out)


def _real_max(node: Node, operands: Sequence[Array]) -> Array:
    return _windows(node, operands[0], -np.inf, np.maximum)


def _real_average(node: Node, operands: Sequence[Array]) -> Array:
    """Plain mean; the divisor counts `pad` where `count_include_pad`, but never what ceil mode adds."""
    x = operands[0]
    counted = pads(node) if node.attrs["count_include_pad"] else (0, 0, 0, 0)
    excess = _as_pads([t - c for t, c in zip(reach(node, x.shape), counted, strict=True)])
    marks = _padded(_padded(np.ones((1, *x.shape[1:3], 1)), counted, 1.0), excess, 0.0)
    return _windows(node, x, 0.0, np.add) / functools.reduce(np.add, _taps(node, x.shape, marks))


SPECS = [
    OpSpec("max_pool", _pool_shape, _ATTRS, integer=_integer_max, real=_real_max, torch=_torch_max),
    OpSpec(
        "avg_pool",
        _pool_shape,
        {**_ATTRS, "count_include_pad": True},
        integer=_integer_average,
        real=_real_average,
        torch=_torch_average,
    ),
]
