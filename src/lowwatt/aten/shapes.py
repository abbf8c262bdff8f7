"""aten operators in the builder's terms: what moves, joins, cuts and reshapes, and reductions along axes."""

from __future__ import annotations

from collections.abc import Sequence

from lowwatt.aten.call import Call, Result, Rule
from lowwatt.ir.builder import LayoutBuilder, Value


def _cat(b: LayoutBuilder, call: Call) -> Value:
    return b.concat(call.args["tensors"], call.args["dim"], **call.names)


def _slice(b: LayoutBuilder, call: Call) -> Value:
    size = call.x.shape[call.args["dim"]]
    start, stop, _ = slice(call.args["start"], call.args["end"]).indices(size)
    return _range(b, call, call.name, start, stop, call.args["step"])


def _narrow(b: LayoutBuilder, call: Call) -> Value:
    start = call.args["start"] % call.x.shape[call.args["dim"]]
    return _range(b, call, call.name, start, start + call.args["length"])


def _range(b: LayoutBuilder, call: Call, name: str, start: int, stop: int, step: int = 1) -> Value:
    """Part of the axis `dim`."""
    rank, axis = len(call.x.shape), call.args["dim"] % len(call.x.shape)
    begin = tuple(start if i == axis else 0 for i in range(rank))
    end = tuple(stop if i == axis else n for i, n in enumerate(call.x.shape))
    strides = tuple(step if i == axis else 1 for i in range(rank))
    return b.slice(call.x, begin, end, strides, name=name, origin=call.origin)


def _parts(b: LayoutBuilder, call: Call) -> list[Value]:
    """chunk and split: the sizes are those of the results."""
    start, parts = 0, []
    for index, shape in enumerate(call.shape):
        stop = start + shape[call.args["dim"]]
        parts.append(_range(b, call, f"{call.name}.{index}", start, stop))
        start = stop
    return parts


def _select(b: LayoutBuilder, call: Call) -> Value:
    return b.select(call.x, call.args["dim"], call.args["index"], **call.names)


def _unbind(b: LayoutBuilder, call: Call) -> list[Value]:
    axis = call.args["dim"]
    count = range(call.x.shape[axis])
    return [b.select(call.x, axis, i, name=f"{call.name}.{i}", origin=call.origin) for i in count]


def _stack(b: LayoutBuilder, call: Call) -> Value:
    axis = call.args["dim"] % len(call.shape)
    shape = tuple(1 if i == axis else n for i, n in enumerate(call.shape))
    values: Sequence[Value] = call.args["tensors"]
    parts = [b.reshape(v, shape, name=f"{call.name}.{i}") for i, v in enumerate(values)]
    return b.concat(parts, axis, **call.names)


def _reshape(b: LayoutBuilder, call: Call) -> Value:
    return b.reshape(call.x, call.shape, **call.names)


def _permute(b: LayoutBuilder, call: Call) -> Value:
    rank = len(call.x.shape)
    return b.transpose(call.x, tuple(d % rank for d in call.args["dims"]), **call.names)


def _transpose(b: LayoutBuilder, call: Call) -> Value:
    order = list(range(len(call.x.shape)))
    first, second = call.args["dim0"], call.args["dim1"]
    order[first], order[second] = order[second], order[first]
    return b.transpose(call.x, tuple(order), **call.names)


def _same(b: LayoutBuilder, call: Call) -> Value:
    if tuple(call.shape) != call.x.shape:
        call.refuse(f"shape {call.x.shape} would be repeated to {call.shape}")
    return call.x


def _pixel_shuffle(b: LayoutBuilder, call: Call) -> Value:
    (batch, _, rows, columns), factor = call.x.shape, call.args["upscale_factor"]
    split = b.reshape(call.x, (batch, call.shape[1], factor, factor, rows, columns), name=f"{call.name}.split")
    turned = b.transpose(split, (0, 1, 4, 2, 5, 3), name=f"{call.name}.turn")
    return b.reshape(turned, call.shape, **call.names)


def _channel_shuffle(b: LayoutBuilder, call: Call) -> Value:
    (batch, channels, *size), groups = call.x.shape, call.args["groups"]
    split = b.reshape(call.x, (batch, groups, channels // groups, *size), name=f"{call.name}.split")
    turned = b.transpose(split, (0, 2, 1, *range(3, 3 + len(size))), name=f"{call.name}.turn")
    return b.reshape(turned, call.shape, **call.names)


def _pixel_unshuffle(b: LayoutBuilder, call: Call) -> Value:
    (batch, channels, rows, columns), factor = call.x.shape, call.args["downscale_factor"]
    sizes = (batch, channels, rows // factor, factor, columns // factor, factor)
    split = b.reshape(call.x, sizes, name=f"{call.name}.split")
    turned = b.transpose(split, (0, 1, 3, 5, 2, 4), name=f"{call.name}.turn")
    return b.reshape(turned, call.shape, **call.names)


def _reduce(op: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        axes = call.args.get("dim")
        axes = range(len(call.x.shape)) if axes in (None, []) else [axes] if isinstance(axes, int) else axes
        return b.reduce(op, call.x, axes, bool(call.args.get("keepdim")), **call.names)

    return rule


def _max(b: LayoutBuilder, call: Call) -> Result:
    """max over one axis gives values and places; the places have no counterpart."""
    if isinstance(call.args.get("other"), Value):
        call.refuse("the larger of two tensors has no counterpart")
    value = _reduce("reduce_max")(b, call)
    return [value, None] if isinstance(call.shape, list) else value


_RESHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
_COPIES = (
    "dropout",
    "feature_dropout",
    "clone",
    "contiguous",
    "detach",
    "alias",
    "expand",
    "expand_as",
    "to",
    "lift_fresh_copy",
)
_PARTS = ("slice", "select", "chunk", "split", "split_with_sizes", "unbind", "narrow")

VIEWS = frozenset((*_RESHAPES, *_COPIES, *_PARTS, "permute", "transpose", "t"))
"""Operators whose result may share memory with their operand."""


SHAPE_RULES: dict[str, Rule] = {
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "slice": _slice,
    "chunk": _parts,
    "split": _parts,
    "split_with_sizes": _parts,
    "narrow": _narrow,
    "select": _select,
    "unbind": _unbind,
    "permute": _permute,
    "transpose": _transpose,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "mean": _reduce("reduce_mean"),
    "amax": _reduce("reduce_max"),
    "max": _max,
    **dict.fromkeys(_RESHAPES, _reshape),
    **dict.fromkeys(_COPIES, _same),
}
"""aten operator (without overload and trailing underscore) → rule."""
