"""What the shape rules share: reading attributes, checking ranks, sizes of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Node
from lowwatt.types import Shape

Pads = tuple[int, int, int, int]


def fail(node: Node, what: str, why: str = "", hint: str = "") -> ToolError:
    """Error of node `node`: raise it."""
    return ToolError(f"{node.op}: {what}", where=node.name, why=why, hint=hint)


def integers(node: Node, key: str, count: int | None = None, least: int | None = None) -> tuple[int, ...]:
    """Attribute `key` as whole numbers; ToolError where there are not `count`, or one is below `least`."""
    value = node.attrs[key]
    whole = isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value)
    if not whole or (count is not None and len(value) != count):
        raise fail(node, f"{key} must be {'' if count is None else f'{count} '}whole numbers", f"it is {value!r}")
    if least is not None and any(v < least for v in value):
        raise fail(node, f"{key} must be at least {least}", f"it is {value!r}")
    return tuple(value)


def pair(node: Node, key: str) -> tuple[int, int]:
    """Attribute `key` as (height, width), each at least 1."""
    height, width = integers(node, key, 2, 1)
    return height, width


def pads(node: Node) -> Pads:
    """Attribute `pad` as (top, bottom, left, right), each at least 0."""
    top, bottom, left, right = integers(node, "pad", 4, 0)
    return top, bottom, left, right


def feature_map(node: Node, shape: Shape) -> Shape:
    """The shape itself where it has rank 4 (NHWC); else ToolError."""
    if len(shape) != 4:
        raise fail(node, "takes a feature map (N, H, W, C)", f"its input has shape {shape}")
    return shape


def axis(node: Node, value: int, rank: int) -> int:
    """Axis number counted from the front; ToolError where the tensor has no such axis."""
    if not isinstance(value, int) or not -rank <= value < rank:
        raise fail(node, f"no axis {value}", f"its input has {rank} dimensions")
    return value % rank


def windows(node: Node, size: int, kernel: int, stride: int, before: int, after: int, ceil: bool = False) -> int:
    """Number of window positions along one axis (`kernel` already dilated).

    With `ceil`, a last window that begins in the padding behind the map is dropped (PyTorch's rule).
    """
    room = size + before + after - kernel
    if room < 0:
        raise fail(
            node,
            "the window is larger than the padded map",
            f"window {kernel}, map {size} + {before + after}",
        )
    count = (math.ceil(room / stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + before else count


def broadcast(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Common shape by NumPy's rule."""
    rank = max(len(s) for s in shapes)
    full = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    result = []
    for sizes in zip(*full, strict=True):
        wide = {s for s in sizes if s != 1}
        if len(wide) > 1:
            raise fail(node, "the shapes of the inputs do not fit", " and ".join(map(str, shapes)))
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def same_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Shape rule of operators that keep the shape of their first input."""
    return tuple(shapes[0])
