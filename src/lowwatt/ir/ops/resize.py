"""Resize: nearest and bilinear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir.arithmetic import Integers, Reals, requantize
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import fail, feature_map
from lowwatt.ir.opspec import REQUIRED, IntTensor, OpSpec
from lowwatt.types import Array, QuantParams, Shape

Taps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _resize_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    batch, height, width, channels = feature_map(node, shapes[0])
    scale = node.attrs["scale"]
    if node.attrs["mode"] not in ("nearest", "bilinear"):
        raise fail(node, f"unknown mode {node.attrs['mode']!r}", hint="known: nearest, bilinear")
    if len(scale) != 2 or any(not 0 < s < 1e6 for s in scale):
        raise fail(node, "scale must be two positive numbers (height, width)", f"it is {scale!r}")
    rows, columns = int(height * scale[0]), int(width * scale[1])
    if rows < 1 or columns < 1:
        raise fail(node, "leaves nothing of the map", f"{height} x {width}, scale {scale!r}")
    return batch, rows, columns, channels


def _positions(node: Node, size: int, out: int) -> NDArray[np.float64]:
    """Where each output position lies in the input, in input positions (docs/dpu.md 3.5)."""
    grid = np.arange(out, dtype=np.float64)
    if node.attrs["align_corners"]:
        return grid * ((size - 1) / max(out - 1, 1))
    if node.attrs["half_pixel"]:
        return (grid + 0.5) * (size / out) - 0.5
    return grid * (size / out)


def nearest_sources(node: Node, size: int, out: int) -> NDArray[np.int64]:
    """Input position that each output position copies."""
    where = _positions(node, size, out)
    if node.attrs["align_corners"] or node.attrs["half_pixel"]:
        where = where + 0.5
    return np.clip(np.floor(where), 0, size - 1).astype(np.int64)


def bilinear_taps(node: Node, size: int, out: int) -> Taps:
    """Lower and upper input position of each output position, and the weight of the upper."""
    where = _positions(node, size, out)
    floor = np.floor(where)
    lower = np.clip(floor, 0, size - 1).astype(np.int64)
    upper = np.clip(floor + 1, 0, size - 1).astype(np.int64)
    return lower, upper, where - floor


def _torch_nearest(torch: Any, node: Node, x: Any, rows: int, columns: int) -> Any:
    if not node.attrs["align_corners"] and not node.attrs["half_pixel"]:
        out = torch.nn.functional.interpolate(x.permute(0, 3, 1, 2), size=(rows, columns), mode="nearest")
        return out.permute(0, 2, 3, 1)
    down = torch.as_tensor(nearest_sources(node, x.shape[1], rows), device=x.device)
    across = torch.as_tensor(nearest_sources(node, x.shape[2], columns), device=x.device)
    return x.index_select(1, down).index_select(2, across)


def _torch_blend(torch: Any, node: Node, x: Any, dim: int, out: int) -> Any:
    lower, upper, weight = (torch.as_tensor(t, device=x.device) for t in bilinear_taps(node, x.shape[dim], out))
    weight = weight.to(x.dtype).reshape([-1 if d == dim else 1 for d in range(x.dim())])
    low, high = x.index_select(dim, lower), x.index_select(dim, upper)
    return low + (high - low) * weight


def _torch_resize(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x = operands[0]
    _, rows, columns, _ = _resize_shape(node, [tuple(x.shape)])
    if node.attrs["mode"] == "nearest":
        return _torch_nearest(torch, node, x, rows, columns)
    return _torch_blend(torch, node, _torch_blend(torch, node, x, 1, rows), 2, columns)


def _blend(node: Node, x: Reals, dim: int, out: int) -> Reals:
    lower, upper, weight = bilinear_taps(node, x.shape[dim], out)
    low, high = x.take(lower, dim), x.take(upper, dim)
    return low + (high - low) * weight.reshape([-1 if d == dim else 1 for d in range(x.ndim)])


def _real_resize(node: Node, operands: Sequence[Array]) -> Array:
    x = operands[0].astype(np.float64)
    _, rows, columns, _ = _resize_shape(node, [x.shape])
    if node.attrs["mode"] == "bilinear":
        return _blend(node, _blend(node, x, 1, rows), 2, columns)
    return x.take(nearest_sources(node, x.shape[1], rows), 1).take(nearest_sources(node, x.shape[2], columns), 2)


def _integer_resize(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """R() of the copied or exactly interpolated value (docs/dpu.md 3.4, 3.5)."""
    x = operands[0]
    return requantize(np.ldexp(_real_resize(node, [x.values]), out.fix_point - x.quant.fix_point), out)


_ATTRS = {"scale": REQUIRED, "mode": "nearest", "align_corners": False, "half_pixel": False}

SPECS = [OpSpec("resize", _resize_shape, _ATTRS, integer=_integer_resize, real=_real_resize, torch=_torch_resize)]
