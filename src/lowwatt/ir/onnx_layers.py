"""Reading ONNX: layers with weights, operators of single elements, windows and resizing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.ir.graph import Node
from lowwatt.ir.onnx_call import Call, Rule
from lowwatt.ir.ops.resize import nearest_sources
from lowwatt.types import Array, Shape

# -- layers with weights ------------------------------------------------------------------------------------


def _pair(call: Call, key: str) -> tuple[int, int]:
    values = call.ints(key) or [1, 1]
    if len(values) != 2:
        call.refuse("only two-dimensional windows have a counterpart")
    return values[0], values[1]


def _pads(call: Call, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """(top, bottom, left, right) from pads or auto_pad."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        top, left, bottom, right = (call.ints("pads") or [0] * 4) if mode == "NOTSET" else [0] * 4
        return top, bottom, left, right
    pads: list[int] = []
    for size, k, s, d in zip(call.x.shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads += [small, large] if mode == "SAME_UPPER" else [large, small]
    return tuple(pads)


def _weights(call: Call) -> Array:
    weights = call.constant(1)
    if weights is None or weights.ndim != 4:
        call.refuse("it needs constant weights of rank 4")
    return weights


def _conv(b: LayoutBuilder, call: Call) -> Value:
    weights = _weights(call)
    stride, dilation = _pair(call, "strides"), _pair(call, "dilations")
    return b.conv(
        call.x,
        weights,
        call.constant(2),
        stride=stride,
        dilation=dilation,
        pad=_pads(call, weights.shape[2:], stride, dilation),
        group=call.attrs.get("group", 1),
        parameter=call.value(1).name,
        **call.names,
    )


def _conv_transpose(b: LayoutBuilder, call: Call) -> Value:
    weights = _weights(call)
    if call.attrs.get("group", 1) != 1 or _pair(call, "dilations") != (1, 1):
        call.refuse("groups and dilation have no counterpart")
    if "output_shape" in call.attrs or call.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        call.refuse("the padding must be stated as pads")
    top, left, bottom, right = call.ints("pads") or [0] * 4
    more_h, more_w = call.ints("output_padding") or [0, 0]
    if more_h > bottom or more_w > right:
        call.refuse("output_padding must not be larger than the padding")
    pad = (top, bottom - more_h, left, right - more_w)
    stride = _pair(call, "strides")
    name = call.value(1).name
    return b.transposed_conv(call.x, weights, call.constant(2), stride=stride, pad=pad, parameter=name, **call.names)


def _gemm(b: LayoutBuilder, call: Call) -> Value:
    weights, bias = call.constant(1), call.constant(2)
    if weights is None or call.attrs.get("transA", 0):
        call.refuse("it needs a constant matrix on its right")
    weights = (weights if call.attrs.get("transB", 0) else weights.T) * np.float32(call.attrs.get("alpha", 1.0))
    if bias is not None:
        if bias.size not in (1, len(weights)):
            call.refuse("the bias must be one number an output")
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(call.attrs.get("beta", 1.0)), (len(weights),))
    return b.linear(call.x, weights, bias, parameter=call.value(1).name, **call.names)


def _matmul(b: LayoutBuilder, call: Call) -> Value:
    weights = call.constant(1)
    if weights is None or weights.ndim != 2:
        call.refuse("it needs a constant matrix on its right")
    return b.linear(call.x, weights.T, None, parameter=call.value(1).name, **call.names)


def _batch_norm(b: LayoutBuilder, call: Call) -> Value:
    if call.attrs.get("training_mode", 0):
        call.refuse("it is in training mode")
    parameters = [call.constant(i) for i in range(1, 5)]
    known = [p for p in parameters if p is not None]
    if len(known) != 4:
        call.refuse("it needs four constants")
    return b.batch_norm(call.x, known, eps=call.attrs.get("epsilon", 1e-5), **call.names)


# -- element by element -------------------------------------------------------------------------------------


def _unary(op: str) -> Rule:
    return lambda b, call: b.unary(op, call.x, **call.names)


def _binary(op: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        operands = [call.value(i) for i in range(len(call.inputs))]
        return b.elementwise(op, operands, **call.names) if len(operands) > 1 else operands[0]

    return rule


def _leaky_relu(b: LayoutBuilder, call: Call) -> Value:
    return b.unary("leaky_relu", call.x, alpha=float(call.attrs.get("alpha", 0.01)), **call.names)


def _prelu(b: LayoutBuilder, call: Call) -> Value:
    slope = call.constant(1)
    if slope is None or len(set(slope.reshape(-1).tolist())) != 1:
        call.refuse("it needs one constant slope for all channels")
    return b.unary("leaky_relu", call.x, alpha=float(slope.reshape(-1)[0]), **call.names)


def _hard_sigmoid(b: LayoutBuilder, call: Call) -> Value:
    alpha, beta = call.attrs.get("alpha", 0.2), call.attrs.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-4 and beta == 0.5:
        return b.unary("hard_sigmoid", call.x, **call.names)
    factor = b.constant(f"{call.name}.alpha", np.asarray(alpha, np.float32))
    offset = b.constant(f"{call.name}.beta", np.asarray(beta, np.float32))
    scaled = b.elementwise("mul", [call.x, factor], name=f"{call.name}.scaled", origin=call.origin)
    shifted = b.elementwise("add", [scaled, offset], name=f"{call.name}.shifted", origin=call.origin)
    return b.clip(shifted, 0, 1, **call.names)


def _clip(b: LayoutBuilder, call: Call) -> Value:
    limits = []
    for index, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        data = call.constant(index)
        limits.append(float(call.attrs.get(key, default)) if data is None else float(data.reshape(-1)[0]))
    high = math.inf if limits[1] > 3.4e38 else limits[1]
    return b.clip(call.x, limits[0], high, **call.names)


def _softmax(b: LayoutBuilder, call: Call) -> Value:
    axis = call.attrs.get("axis", 1 if call.opset < 13 else -1)
    axis %= len(call.x.shape)
    if call.opset < 13 and math.prod(call.x.shape[axis + 1 :]) != 1:
        call.refuse(
            "before opset 13 it spans several axes",
        )
    return b.softmax(call.x, axis, **call.names)


# -- windows and space --------------------------------------------------------------------------------------


def _pool(op: str) -> Rule:
    def rule(b: LayoutBuilder, call: Call) -> Value:
        if call.outputs > 1 or _pair(call, "dilations") != (1, 1) or call.attrs.get("storage_order", 0):
            call.refuse("indices and dilation have no counterpart")
        kernel, stride = _pair(call, "kernel_shape"), _pair(call, "strides")
        pad = _pads(call, kernel, stride, (1, 1))
        attrs: dict[str, Any] = {"kernel": kernel, "stride": stride, "pad": pad}
        if op == "avg_pool":
            attrs["count_include_pad"] = bool(call.attrs.get("count_include_pad", 0))
        return b.pool(op, call.x, ceil_mode=bool(call.attrs.get("ceil_mode", 0)), **attrs, **call.names)

    return rule


def _global_pool(op: str) -> Rule:
    return lambda b, call: b.global_pool(op, call.x, **call.names)


def _resize(b: LayoutBuilder, call: Call) -> Value:
    x = call.x
    scales, sizes = call.constant(2 if call.opset >= 11 else 1), call.constant(3)
    if call.op == "Upsample" and "scales" in call.attrs:
        scales = np.asarray(call.attrs["scales"])
    if scales is not None and scales.size:
        factors = [float(s) for s in scales]
    else:
        factors = [float(n) / size for n, size in zip(sizes if sizes is not None else [], x.shape, strict=False)]
    if len(factors) != 4 or factors[:2] != [1, 1] or len(x.shape) != 4:
        call.refuse("only height and width of a feature map can change")
    mode = call.attrs.get("mode", "nearest")
    if mode not in ("nearest", "linear"):
        call.refuse(f"mode {mode} has no counterpart")
    scale = (factors[2], factors[3])
    align, half = _nearest_attrs(call, scale) if mode == "nearest" else _linear_attrs(call)
    ours = "nearest" if mode == "nearest" else "bilinear"
    return b.resize(x, scale, mode=ours, align_corners=align, half_pixel=half, **call.names)


def _linear_attrs(call: Call) -> tuple[bool, bool]:
    """align_corners, half_pixel."""
    where = call.attrs.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    if where not in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"):
        call.refuse(f"coordinate_transformation_mode {where} has no counterpart")
    return where == "align_corners", "half_pixel" in where


def _nearest_attrs(call: Call, scale: tuple[float, float]) -> tuple[bool, bool]:
    """align_corners and half_pixel whose positions are those that ONNX's rules give on this map."""
    rows, columns = call.x.shape[2:]
    wanted = [_onnx_sources(call, n, s) for n, s in ((rows, scale[0]), (columns, scale[1]))]
    for align, half in ((False, False), (False, True), (True, False)):
        attrs = {"align_corners": align, "half_pixel": half}
        probe = Node("probe", "resize", [], {**attrs, "scale": scale, "mode": "nearest"})
        ours = [nearest_sources(probe, n, len(w)) for n, w in zip((rows, columns), wanted, strict=True)]
        if all(np.array_equal(a, w) for a, w in zip(ours, wanted, strict=True)):
            return align, half
    call.refuse("its choice of the nearest pixel has no counterpart")


def _onnx_sources(call: Call, size: int, scale: float) -> NDArray[np.int64]:
    """Input position of each output position by the ONNX operator's text (Resize-11 and later)."""
    out = int(size * scale)
    grid = np.arange(out, dtype=np.float64)
    where = call.attrs.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    if where == "align_corners":
        position = grid * ((size - 1) / max(out - 1, 1))
    elif where in ("half_pixel", "pytorch_half_pixel"):
        position = (grid + 0.5) / scale - 0.5
    elif where == "asymmetric":
        position = grid / scale
    else:
        call.refuse(f"coordinate_transformation_mode {where} has no counterpart")
    rounding = call.attrs.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    chosen = _ROUNDINGS[rounding](position)
    sources: NDArray[np.int64] = np.clip(chosen, 0, size - 1).astype(np.int64)
    return sources


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
}


LAYER_RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Relu": _unary("relu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "Exp": _unary("exp"),
    "Sqrt": _unary("sqrt"),
    "Neg": _unary("neg"),
    "HardSwish": _unary("hard_swish"),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Softmax": _softmax,
    "Add": _binary("add"),
    "Sum": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
    "Pow": _binary("pow"),
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("avg_pool"),
    "GlobalAveragePool": _global_pool("avg_pool"),
    "GlobalMaxPool": _global_pool("max_pool"),
    "Resize": _resize,
    "Upsample": _resize,
}
"""ONNX operator → rule."""
