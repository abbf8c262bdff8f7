"""How each of our operators is said in ONNX: a table of short rules, one a family of operators.

The rules give the plain value; activations and quantization are added where an Emitter finishes the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Node
from lowwatt.ir.onnx_emit import AXIS_TO_NCHW, TO_NCHW, TO_NHWC, Emitter
from lowwatt.ir.ops.reduction import reduced_axes
from lowwatt.types import Array, Shape

Rule = Callable[[Emitter, Node], None]


def onnx_pads(pad: Sequence[int]) -> list[int]:
    """(top, bottom, left, right) as ONNX has it: top, left, bottom, right."""
    top, bottom, left, right = pad
    return [top, left, bottom, right]


def onnx_weights(node: Node, weights: Array) -> Array:
    """Weights in ONNX's layout: OIHW; IOHW and not flipped for transposed convolutions; [in, out] for linear."""
    if node.op == "depthwise_conv2d":
        mult, height, width, channels = weights.shape
        return weights.transpose(3, 0, 1, 2).reshape(channels * mult, 1, height, width)
    if node.op == "transposed_conv2d":
        return weights[:, ::-1, ::-1, :].transpose(3, 0, 1, 2)
    return weights.transpose(TO_NCHW) if node.op == "conv2d" else weights.T


def window_attrs(node: Node, weights: Shape) -> dict[str, Any]:
    """Attributes of Conv and ConvTranspose."""
    attrs: dict[str, Any] = {"strides": list(node.attrs["stride"]), "pads": onnx_pads(node.attrs["pad"])}
    if node.op != "transposed_conv2d":
        attrs["dilations"] = list(node.attrs["dilation"])
        attrs["group"] = weights[3] if node.op == "depthwise_conv2d" else node.attrs["group"]
    return attrs


def _layer(e: Emitter, node: Node) -> None:
    axis = 1 if node.op in ("transposed_conv2d", "linear") else 0
    laid = e.stored(node.inputs[1], onnx_weights(node, e.data(node, 1)), axis)
    bias = [e.get(node.inputs[2])] if len(node.inputs) == 3 else []
    weighted(e, node, laid, bias)


def weighted(e: Emitter, node: Node, weights: str, bias: list[str]) -> None:
    """A convolution or linear layer of given ONNX weights and bias."""
    if node.op == "linear":
        value = e.op("MatMul", [e.get(node.inputs[0]), weights], f"{node.name}.product")
        value = e.op("Add", [value, *bias], f"{node.name}.sum") if bias else value
        e.finish(node, value, False)
        return
    kind = "ConvTranspose" if node.op == "transposed_conv2d" else "Conv"
    attrs = window_attrs(node, e.shape(node.inputs[1]))
    inputs = [e.get(node.inputs[0], True), weights, *bias]
    e.finish(node, e.op(kind, inputs, f"{node.name}.conv", **attrs), True)


def _batch_norm(e: Emitter, node: Node) -> None:
    rank4 = len(e.shape(node.name)) == 4
    inputs = [e.get(node.inputs[0], rank4), *(e.get(name) for name in node.inputs[1:])]
    e.finish(node, e.op("BatchNormalization", inputs, f"{node.name}.norm", epsilon=node.attrs["eps"]), rank4)


def _pool(kind: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        attrs: dict[str, Any] = {
            "kernel_shape": list(node.attrs["kernel"]),
            "strides": list(node.attrs["stride"]),
            "pads": onnx_pads(node.attrs["pad"]),
            "ceil_mode": int(node.attrs["ceil_mode"]),
        }
        if kind == "AveragePool":
            attrs["count_include_pad"] = int(node.attrs["count_include_pad"])
        e.finish(node, e.op(kind, [e.get(node.inputs[0], True)], f"{node.name}.pool", **attrs), True)

    return rule


# -- element by element -------------------------------------------------------------------------------------


def unary(kind: str, **attrs: Any) -> Rule:
    """An ONNX operator of each element alone."""

    def rule(e: Emitter, node: Node) -> None:
        nchw = e.is_nchw(node.inputs[0])
        e.finish(node, e.op(kind, [e.get(node.inputs[0], nchw)], f"{node.name}.value", **attrs), nchw)

    return rule


def _identity(e: Emitter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs[0])
    e.finish(node, e.get(node.inputs[0], nchw), nchw)


def _leaky_relu(e: Emitter, node: Node) -> None:
    unary("LeakyRelu", alpha=float(node.attrs["alpha"]))(e, node)


def _clip(low: float | None = None, high: float | None = None) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        limits = (node.attrs["min"], node.attrs["max"]) if low is None or high is None else (low, high)
        nchw = e.is_nchw(node.inputs[0])
        e.finish(node, clipped(e, node, e.get(node.inputs[0], nchw), *limits), nchw)

    return rule


def clipped(e: Emitter, node: Node, value: str, low: float, high: float) -> str:
    """Clip; an infinite limit is left out."""
    names = [
        "" if math.isinf(limit) else e.constant(f"{node.name}.{word}", np.asarray(limit, np.float32))
        for word, limit in (("min", low), ("max", high))
    ]
    return e.op("Clip", [value, *names], f"{node.name}.clip")


def real_activation(e: Emitter, node: Node, value: str) -> str:
    """The `activation` attribute on a float value."""
    name = node.attrs.get("activation", "none")
    if name == "none":
        return value
    if name == "relu6":
        return clipped(e, node, value, 0.0, 6.0)
    if name == "leaky_relu":
        return e.op("LeakyRelu", [value], f"{node.name}.act", alpha=float(node.attrs["alpha"]))
    if name == "hard_sigmoid":
        return e.op("HardSigmoid", [value], f"{node.name}.act", alpha=1 / 6, beta=0.5)
    return e.op({"relu": "Relu", "hard_swish": "HardSwish"}[name], [value], f"{node.name}.act")


def _silu(e: Emitter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs[0])
    value = e.get(node.inputs[0], nchw)
    gate = e.op("Sigmoid", [value], f"{node.name}.gate")
    e.finish(node, e.op("Mul", [value, gate], f"{node.name}.value"), nchw)


def operands(e: Emitter, node: Node) -> tuple[list[str], bool]:
    """Operands of an operator between tensors in one common order; True where that is NCHW."""
    nchw = any(e.is_nchw(name) for name in node.inputs) and len(e.shape(node.name)) == 4
    return [_lifted(e, node, name, nchw) for name in node.inputs], nchw


def _lifted(e: Emitter, node: Node, name: str, nchw: bool) -> str:
    """An operand; of lower rank than 4 it is given leading ones first, for broadcasting counts from the back."""
    shape = e.shape(name)
    if not nchw or len(shape) == 4:
        return e.get(name, nchw)
    full = (1,) * (4 - len(shape)) + shape
    data = e.graph.tensor(name).data
    if data is not None:
        return e.stored(name, data.reshape(full).transpose(TO_NCHW))
    lifted = e.op("Reshape", [e.get(name), e.ints(full, f"{name}.shape4")], f"{name}.rank4")
    return e.op("Transpose", [lifted], f"{name}.rank4.nchw", perm=TO_NCHW)


def chained(e: Emitter, node: Node, kind: str, values: Sequence[str]) -> str:
    """A sum or product of two or more values, from left to right."""
    total = values[0]
    for value in values[1:]:
        total = e.op(kind, [total, value], f"{node.name}.{kind.lower()}")
    return total


def _elementwise(kind: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        values, nchw = operands(e, node)
        e.finish(node, chained(e, node, kind, values), nchw)

    return rule


# -- axes and shapes ----------------------------------------------------------------------------------------


def axis_of(e: Emitter, node: Node, axis: int, nchw: bool) -> int:
    """ONNX axis of an axis of the node's first input."""
    axis %= len(e.shape(node.inputs[0]))
    return AXIS_TO_NCHW[axis] if nchw else axis


def _softmax(e: Emitter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs[0])
    axis = axis_of(e, node, node.attrs["axis"], nchw)
    e.finish(node, e.op("Softmax", [e.get(node.inputs[0], nchw)], f"{node.name}.value", axis=axis), nchw)


def _concat(e: Emitter, node: Node) -> None:
    nchw = any(e.is_nchw(name) for name in node.inputs)
    values = [e.get(name, nchw) for name in node.inputs]
    axis = axis_of(e, node, node.attrs["axis"], nchw)
    e.finish(node, e.op("Concat", values, f"{node.name}.value", axis=axis), nchw)


def _slice(e: Emitter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs[0])
    rank = range(len(e.shape(node.inputs[0])))
    axes = [axis_of(e, node, axis, nchw) for axis in rank]
    lists = {"begin": node.attrs["begin"], "end": node.attrs["end"], "axes": axes, "strides": node.attrs["strides"]}
    names = [e.ints(values, f"{node.name}.{word}") for word, values in lists.items()]
    e.finish(node, e.op("Slice", [e.get(node.inputs[0], nchw), *names], f"{node.name}.value"), nchw)


def _pad(e: Emitter, node: Node) -> None:
    nchw = e.is_nchw(node.inputs[0])
    e.finish(node, padded(e, node, e.get(node.inputs[0], nchw), nchw, node.attrs["value"]), nchw)


def padded(e: Emitter, node: Node, value: str, nchw: bool, fill: float) -> str:
    """Constant padding of a value."""
    if node.attrs["mode"] != "constant":
        raise ToolError("ONNX has no symmetric padding", where=node.name, hint="pad with a constant")
    pads = list(zip(node.attrs["pads"][::2], node.attrs["pads"][1::2], strict=True))
    pads = [pads[axis] for axis in TO_NCHW] if nchw else pads
    flat = [before for before, _ in pads] + [after for _, after in pads]
    constant = e.constant(f"{node.name}.fill", np.asarray(fill, np.float32))
    return e.op("Pad", [value, e.ints(flat, f"{node.name}.pads"), constant], f"{node.name}.padded")


def resized(e: Emitter, node: Node, value: str) -> str:
    """Resize of an NCHW value; the sizes are stated, so that positions follow from them as ours do."""
    batch, rows, columns, channels = e.shape(node.name)
    nearest = node.attrs["mode"] == "nearest"
    half, align = node.attrs["half_pixel"], node.attrs["align_corners"]
    attrs = {
        "mode": "nearest" if nearest else "linear",
        "coordinate_transformation_mode": "align_corners" if align else "half_pixel" if half else "asymmetric",
    }
    if nearest:
        attrs["nearest_mode"] = "round_prefer_ceil" if half or align else "floor"
    sizes = e.ints((batch, channels, rows, columns), f"{node.name}.sizes")
    return e.op("Resize", [value, "", "", sizes], f"{node.name}.value", **attrs)


def _resize(e: Emitter, node: Node) -> None:
    e.finish(node, resized(e, node, e.get(node.inputs[0], True)), True)


def _reshape(e: Emitter, node: Node) -> None:
    shape = e.ints(node.attrs["shape"], f"{node.name}.shape")
    e.finish(node, e.op("Reshape", [e.get(node.inputs[0]), shape], f"{node.name}.value"), False)


def _transpose(e: Emitter, node: Node) -> None:
    """Where the value lives NCHW, turning it to NCHW is free, and any other order is one Transpose."""
    order, source = tuple(node.attrs["order"]), node.inputs[0]
    if e.is_nchw(source) and order == TO_NCHW:
        e.finish(node, e.get(source, True), False)
    elif not e.is_nchw(source) and order == TO_NHWC:
        e.finish(node, e.get(source), True)
    else:
        nchw = e.is_nchw(source)
        perm = [axis_of(e, node, axis, nchw) for axis in order]
        e.finish(node, e.op("Transpose", [e.get(source, nchw)], f"{node.name}.value", perm=perm), False)


def _reduce(kind: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        value, axes, nchw = reduce_operand(e, node)
        keep = int(node.attrs["keepdims"])
        if kind == "ReduceSum" or e.opset >= 18:
            result = e.op(kind, [value, e.ints(axes, f"{node.name}.axes")], f"{node.name}.value", keepdims=keep)
        else:
            result = e.op(kind, [value], f"{node.name}.value", axes=axes, keepdims=keep)
        e.finish(node, result, nchw)

    return rule


def reduce_operand(e: Emitter, node: Node) -> tuple[str, list[int], bool]:
    """Operand, ONNX axes, and whether the result is NCHW: it can be where the dimensions stay."""
    source = node.inputs[0]
    nchw = e.is_nchw(source) and bool(node.attrs["keepdims"])
    axes = [axis_of(e, node, axis, nchw) for axis in reduced_axes(node, len(e.shape(source)))]
    return e.get(source, nchw), sorted(axes), nchw


RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear"), _layer),
    "batch_norm": _batch_norm,
    "max_pool": _pool("MaxPool"),
    "avg_pool": _pool("AveragePool"),
    "relu": unary("Relu"),
    "relu6": _clip(0.0, 6.0),
    "clip": _clip(),
    "leaky_relu": _leaky_relu,
    "sigmoid": unary("Sigmoid"),
    "tanh": unary("Tanh"),
    "hard_sigmoid": unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": unary("HardSwish"),
    "silu": _silu,
    "exp": unary("Exp"),
    "sqrt": unary("Sqrt"),
    "neg": unary("Neg"),
    "add": _elementwise("Add"),
    "mul": _elementwise("Mul"),
    "sub": _elementwise("Sub"),
    "div": _elementwise("Div"),
    "pow": _elementwise("Pow"),
    "softmax": _softmax,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "reshape": _reshape,
    "transpose": _transpose,
    "reduce_mean": _reduce("ReduceMean"),
    "reduce_max": _reduce("ReduceMax"),
    "identity": _identity,
    "fix": _identity,
}
"""Operator → rule of the float writer."""
