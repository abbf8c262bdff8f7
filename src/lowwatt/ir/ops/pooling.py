"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import Pads, fail, feature_map, pads, pair, windows
from lowwatt.ir.opspec import REQUIRED, OpSpec
from lowwatt.types import Shape

_ATTRS = {"kernel": REQUIRED, "stride": REQUIRED, "pad": (0, 0, 0, 0), "ceil_mode": False}


def _pool_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    batch, height, width, channels = feature_map(node, shapes[0])
    (kh, kw), (sh, sw) = pair(node, "kernel"), pair(node, "stride")
    top, bottom, left, right = pads(node)
    if max(top, bottom) >= kh or max(left, right) >= kw:
        raise fail(
            node, "the padding must be smaller than the window", f"pad {pads(node)}, kernel {(kh, kw)}"
        )
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
        mean = mean / torch.nn.functional.avg_pool2d(
            _torch_padded(torch, ones, _as_pads(excess), 0.0), kernel, stride
        )
    return mean.permute(0, 2, 3, 1)


def _as_pads(values: Sequence[int]) -> Pads:
    top, bottom, left, right = values
    return top, bottom, left, right


SPECS = [
    OpSpec("max_pool", _pool_shape, _ATTRS, torch=_torch_max),
    OpSpec("avg_pool", _pool_shape, {**_ATTRS, "count_include_pad": True}, torch=_torch_average),
]
