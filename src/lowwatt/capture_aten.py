"""How each aten operator is said in the builder's terms: a table of short rules, one a family of operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.types import Array, Shape

Result = Any
"""A Value, or a list of Values (None where one has no counterpart)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of the exported program: name and origin for the node, arguments by the schema's names.

    `shape` is that of the result (a list of shapes where there are several), `place` the user's line of source.
    """

    name: str
    origin: str
    args: dict[str, Any]
    shape: Any
    place: str

    @property
    def names(self) -> dict[str, Any]:
        """name and origin, as the builder takes them."""
        return {"name": self.name, "origin": self.origin}

    @property
    def x(self) -> Value:
        """First operand."""
        value: Value = next(iter(self.args.values()))
        return value

    def refuse(self, why: str) -> NoReturn:
        """Raise the ToolError of this call."""
        raise ToolError(f"{self.name} cannot be captured", where=self.place, why=why)


Rule = Callable[[LayoutBuilder, Call], Result]


def _data(call: Call, key: str) -> Array | None:
    """Value of a constant argument; None where it was not given."""
    value = call.args[key]
    if value is None:
        return None
    if value.data is None:
        call.refuse(f"{key} must be a constant")
    data: Array = value.data
    return data


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _pad(value: Any) -> Shape:
    height, width = _pair(value)
    return height, height, width, width


# -- layers with weights ------------------------------------------------------------------------------------


def _conv(b: LayoutBuilder, call: Call) -> Value:
    weights = _data(call, "weight")
    assert weights is not None
    if weights.ndim != 4:
        call.refuse("only two-dimensional convolutions have a counterpart")
    dilation = _pair(call.args["dilation"])
    padding = call.args["padding"]
    if isinstance(padding, str):
        pad = _same_pad(weights.shape[2:], dilation) if padding == "same" else (0, 0, 0, 0)
    else:
        pad = _pad(padding)
    return b.conv(
        call.x,
        weights,
        _data(call, "bias"),
        stride=_pair(call.args["stride"]),
        pad=pad,
        dilation=dilation,
        group=call.args["groups"],
        parameter=call.args["weight"].name,
        **call.names,
    )


def _same_pad(kernel: Shape, dilation: Shape) -> Shape:
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple(n for total in totals for n in (total // 2, total - total // 2))


def _conv_transpose(b: LayoutBuilder, call: Call) -> Value:
    weights = _data(call, "weight")
    assert weights is not None
    if weights.ndim != 4 or call.args["groups"] != 1 or _pair(call.args["dilation"]) != (1, 1):
        call.refuse("a transposed convolution must be two-dimensional, of one group, without dilation")
    (height, width), (more_h, more_w) = _pair(call.args["padding"]), _pair(call.args["output_padding"])
    if more_h > height or more_w > width:
        call.refuse("output_padding must not be larger than padding")
    return b.transposed_conv(
        call.x,
        weights,
        _data(call, "bias"),
        stride=_pair(call.args["stride"]),
        pad=(height, height - more_h, width, width - more_w),
        parameter=call.args["weight"].name,
        **call.names,
    )


def _linear(b: LayoutBuilder, call: Call) -> Value:
    weights = _data(call, "weight")
    assert weights is not None
    return b.linear(call.x, weights, _data(call, "bias"), parameter=call.args["weight"].name, **call.names)


def _matmul(b: LayoutBuilder, call: Call) -> Value:
    return b.linear(call.x, _matrix(call, "other" if "other" in call.args else "mat2"), None, **call.names)


def _addmm(b: LayoutBuilder, call: Call) -> Value:
    if call.args["alpha"] != 1 or call.args["beta"] != 1:
        call.refuse("alpha and beta have no counterpart")
    return b.linear(call.args["mat1"], _matrix(call, "mat2"), _data(call, "self"), **call.names)


def _matrix(call: Call, key: str) -> Array:
    """Weights [out, in] from the constant matrix [in, out] on a product's right."""
    data: Array | None = call.args[key].data
    if data is None or data.ndim != 2:
        call.refuse("a product needs a constant matrix on its right")
    return data.T


def _batch_norm(b: LayoutBuilder, call: Call) -> Value:
    if call.args["training"] or call.args["running_mean"] is None:
        call.refuse("batch norm over the batch's own statistics has no counterpart")
    mean = _data(call, "running_mean")
    variance = _data(call, "running_var")
    assert mean is not None and variance is not None
    scale, bias = _data(call, "weight"), _data(call, "bias")
    scale = np.ones_like(mean) if scale is None else scale
    bias = np.zeros_like(mean) if bias is None else bias
    return b.batch_norm(call.x, [scale, bias, mean, variance], eps=call.args["eps"], **call.names)


# -- element by element -------------------------------------------------------------------------------------


def _unary(op: str) -> Rule:
    return lambda b, call: b.unary(op, call.x, **call.names)


def _leaky_relu(b: LayoutBuilder, call: Call) -> Value:
    return b.unary("leaky_relu", call.x, alpha=float(call.args["negative_slope"]), **call.names)


def _prelu(b: LayoutBuilder, call: Call) -> Value:
    slope = _data(call, "weight")
    if slope is None or slope.size != 1:
        call.refuse("prelu needs one constant slope for all channels")
    return b.unary("leaky_relu", call.x, alpha=float(slope.reshape(-1)[0]), **call.names)


def _clamp(b: LayoutBuilder, call: Call) -> Value:
    low = call.args.get("min", call.args.get("min_val"))
    high = call.args.get("max", call.args.get("max_val"))
    if isinstance(low, Value) or isinstance(high, Value):
        call.refuse("the limits must be numbers")
    limits = (-math.inf if low is None else low, math.inf if high is None else high)
    return b.clip(call.x, *limits, **call.names)


def _binary(op: str, swap: bool = False) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        if call.args.get("alpha", 1) != 1 or call.args.get("rounding_mode") is not None:
            call.refuse("a factor or a rounding mode has no counterpart")
        first, second = list(call.args.values())[:2]
        operands = [_operand(b, first, f"{call.name}.self"), _operand(b, second, f"{call.name}.other")]
        return b.elementwise(op, operands[::-1] if swap else operands, **call.names)

    return rule


def _operand(b: LayoutBuilder, value: Any, name: str) -> Value:
    return value if isinstance(value, Value) else b.constant(name, np.asarray(value, np.float32))


def _softmax(b: LayoutBuilder, call: Call) -> Value:
    return b.softmax(call.x, call.args["dim"], **call.names)


# -- windows and space --------------------------------------------------------------------------------------


def _pool_attrs(call: Call) -> dict[str, Any]:
    kernel = _pair(call.args["kernel_size"])
    return {
        "kernel": kernel,
        "stride": _pair(call.args["stride"] or kernel),
        "pad": _pad(call.args["padding"]),
        "ceil_mode": bool(call.args["ceil_mode"]),
    }


def _max_pool(b: LayoutBuilder, call: Call) -> Value:
    if _pair(call.args["dilation"]) != (1, 1):
        call.refuse("a dilated pool has no counterpart")
    return b.pool("max_pool", call.x, **_pool_attrs(call), **call.names)


def _avg_pool(b: LayoutBuilder, call: Call) -> Value:
    if call.args["divisor_override"] is not None:
        call.refuse("divisor_override has no counterpart")
    counted = bool(call.args["count_include_pad"])
    return b.pool("avg_pool", call.x, **_pool_attrs(call), count_include_pad=counted, **call.names)


def _adaptive(op: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        size, out = call.x.shape[-2:], _pair(call.args["output_size"])
        if size[0] % out[0] or size[1] % out[1]:
            call.refuse(f"the map {size} does not divide evenly into {out}")
        kernel = (size[0] // out[0], size[1] // out[1])
        return b.pool(op, call.x, kernel=kernel, stride=kernel, **call.names)

    return rule


def _upsample(mode: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        size, out = call.x.shape[-2:], call.shape[-2:]
        align = bool(call.args.get("align_corners"))
        scale = (out[0] / size[0], out[1] / size[1])
        attrs: dict[str, Any] = {"mode": mode, "align_corners": align, "half_pixel": mode == "bilinear" and not align}
        return b.resize(call.x, scale, **attrs, **call.names)

    return rule


def _pad_rule(b: LayoutBuilder, call: Call) -> Value:
    mode = call.args.get("mode", "constant")
    if mode != "constant":
        call.refuse(f"padding mode {mode} has no counterpart")
    flat = list(call.args["pad"])
    pads = [(before, after) for before, after in zip(flat[::2], flat[1::2], strict=True)][::-1]
    pads = [(0, 0)] * (len(call.x.shape) - len(pads)) + pads
    return b.pad(call.x, pads, value=float(call.args.get("value") or 0), **call.names)


# -- axes and shapes ----------------------------------------------------------------------------------------


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

RULES: dict[str, Rule] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    "batch_norm": _batch_norm,
    "relu": _unary("relu"),
    "relu6": _unary("relu6"),
    "silu": _unary("silu"),
    "sigmoid": _unary("sigmoid"),
    "tanh": _unary("tanh"),
    "hardswish": _unary("hard_swish"),
    "hardsigmoid": _unary("hard_sigmoid"),
    "exp": _unary("exp"),
    "sqrt": _unary("sqrt"),
    "neg": _unary("neg"),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "add": _binary("add"),
    "sub": _binary("sub"),
    "rsub": _binary("sub", swap=True),
    "mul": _binary("mul"),
    "div": _binary("div"),
    "pow": _binary("pow"),
    "softmax": _softmax,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive("avg_pool"),
    "upsample_nearest2d": _upsample("nearest"),
    "upsample_bilinear2d": _upsample("bilinear"),
    "pad": _pad_rule,
    "constant_pad_nd": _pad_rule,
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
