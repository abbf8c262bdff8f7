"""aten operators in the builder's terms: layers with weights, single elements, windows and resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lowwatt.aten.call import Call, Rule, constant
from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.types import Array, Shape


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _pad(value: Any) -> Shape:
    height, width = _pair(value)
    return height, height, width, width


# -- layers with weights ------------------------------------------------------------------------------------


def _conv(b: LayoutBuilder, call: Call) -> Value:
    weights = constant(call, "weight")
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
        constant(call, "bias"),
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
    weights = constant(call, "weight")
    assert weights is not None
    if weights.ndim != 4 or call.args["groups"] != 1 or _pair(call.args["dilation"]) != (1, 1):
        call.refuse("a transposed convolution must be two-dimensional, of one group, without dilation")
    (height, width), (more_h, more_w) = _pair(call.args["padding"]), _pair(call.args["output_padding"])
    if more_h > height or more_w > width:
        call.refuse("output_padding must not be larger than padding")
    return b.transposed_conv(
        call.x,
        weights,
        constant(call, "bias"),
        stride=_pair(call.args["stride"]),
        pad=(height, height - more_h, width, width - more_w),
        parameter=call.args["weight"].name,
        **call.names,
    )


def _linear(b: LayoutBuilder, call: Call) -> Value:
    weights = constant(call, "weight")
    assert weights is not None
    return b.linear(call.x, weights, constant(call, "bias"), parameter=call.args["weight"].name, **call.names)


def _matmul(b: LayoutBuilder, call: Call) -> Value:
    return b.linear(call.x, _matrix(call, "other" if "other" in call.args else "mat2"), None, **call.names)


def _addmm(b: LayoutBuilder, call: Call) -> Value:
    if call.args["alpha"] != 1 or call.args["beta"] != 1:
        call.refuse("alpha and beta have no counterpart")
    return b.linear(call.args["mat1"], _matrix(call, "mat2"), constant(call, "self"), **call.names)


def _matrix(call: Call, key: str) -> Array:
    """Weights [out, in] from the constant matrix [in, out] on a product's right."""
    data: Array | None = call.args[key].data
    if data is None or data.ndim != 2:
        call.refuse("a product needs a constant matrix on its right")
    return data.T


def _batch_norm(b: LayoutBuilder, call: Call) -> Value:
    if call.args["training"] or call.args["running_mean"] is None:
        call.refuse("batch norm over the batch's own statistics has no counterpart")
    mean = constant(call, "running_mean")
    variance = constant(call, "running_var")
    assert mean is not None and variance is not None
    scale, bias = constant(call, "weight"), constant(call, "bias")
    scale = np.ones_like(mean) if scale is None else scale
    bias = np.zeros_like(mean) if bias is None else bias
    return b.batch_norm(call.x, [scale, bias, mean, variance], eps=call.args["eps"], **call.names)


# -- element by element -------------------------------------------------------------------------------------


def _unary(op: str) -> Rule:
    return lambda b, call: b.unary(op, call.x, **call.names)


def _leaky_relu(b: LayoutBuilder, call: Call) -> Value:
    return b.unary("leaky_relu", call.x, alpha=float(call.args["negative_slope"]), **call.names)


def _prelu(b: LayoutBuilder, call: Call) -> Value:
    slope = constant(call, "weight")
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


LAYER_RULES: dict[str, Rule] = {
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
}
"""aten operator (without overload and trailing underscore) → rule."""
