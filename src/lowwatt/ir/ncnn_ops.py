"""How each operator is said in ncnn: layers with weights in int8 where their operands carry integers, else in float."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lowwatt.ir.graph import Node
from lowwatt.ir.ncnn_emit import NcnnEmitter, blob_shape
from lowwatt.ir.onnx_ops import onnx_weights
from lowwatt.types import QuantParams

Rule = Callable[[NcnnEmitter, Node], None]

_LAYERS = {
    "conv2d": "Convolution",
    "depthwise_conv2d": "ConvolutionDepthWise",
    "transposed_conv2d": "Deconvolution",
    "linear": "InnerProduct",
}
_INT8 = ("conv2d", "depthwise_conv2d", "linear")
"""Layers that ncnn has in int8."""


def is_int8(e: NcnnEmitter, node: Node) -> bool:
    """Whether a layer reads integers."""
    tensors = [e.graph.tensor(name) for name in node.inputs[:2]]
    plain = all(t.quant is not None and not t.quant.zero_point and not any(t.quant.zero_points) for t in tensors)
    return node.op in _INT8 and plain and all(t.quant is not None and t.quant.bits <= 8 for t in tensors)


def _layer(e: NcnnEmitter, node: Node) -> None:
    weights = e.graph.tensor(node.inputs[1])
    if weights.data is None or node.attrs.get("group", 1) != 1:
        raise e.refuse(node, "it needs constant weights, and no groups")
    real = weights.quant.dequantize(weights.data) if weights.quant is not None else weights.data
    integers = is_int8(e, node)
    laid = _laid(node, weights.data if integers else real)
    parameters = _window(node, laid) | {(5 if node.op != "linear" else 1): int(len(node.inputs) > 2)}
    parameters |= _activation(e, node) | ({8: 1} if integers else {})
    e.layer(_LAYERS[node.op], node.name, [e.get(node.inputs[0])], dict(sorted(parameters.items())))
    e.weights(laid.astype(np.int8 if integers else np.float32))
    if len(node.inputs) > 2:
        bias = e.graph.tensor(node.inputs[2]).data
        assert bias is not None
        e.numbers(bias)
    if integers:
        _scales(e, node)


def _laid(node: Node, weights: Any) -> Any:
    """Weights with the output channel first: OIHW, also for a transposed convolution, and [out, in] for linear."""
    laid = onnx_weights(node, weights)
    if node.op == "transposed_conv2d":
        laid = laid.transpose(1, 0, 2, 3)
    return np.ascontiguousarray(weights if node.op == "linear" else laid)


def _window(node: Node, laid: Any) -> dict[int, Any]:
    if node.op == "linear":
        return {0: laid.shape[0], 2: laid.size}
    height, width = laid.shape[2:]
    top, bottom, left, right = node.attrs["pad"]
    found = {0: laid.shape[0], 1: width, 11: height, 6: laid.size, 4: left, 14: top, 15: right, 16: bottom}
    found |= {3: node.attrs["stride"][1], 13: node.attrs["stride"][0]}
    if node.op != "transposed_conv2d":
        found |= {2: node.attrs["dilation"][1], 12: node.attrs["dilation"][0]}
    return found | ({7: laid.shape[0]} if node.op == "depthwise_conv2d" else {})


def _depthwise(e: NcnnEmitter, node: Node) -> None:
    if e.shape(node.inputs[1])[0] != 1:
        raise e.refuse(node, "it has several output channels for each input channel")
    _layer(e, node)


def _activation(e: NcnnEmitter, node: Node) -> dict[int, Any]:
    """Parameters 9 and 10 of a layer: what is fused into it."""
    known: dict[str, dict[int, Any]] = {
        "none": {},
        "relu": {9: 1},
        "relu6": {9: 3, 10: [0.0, 6.0]},
        "leaky_relu": {9: 2, 10: [float(node.attrs.get("alpha", 0.0))]},
    }
    name = node.attrs.get("activation", "none")
    if name not in known:
        raise e.refuse(node, f"{name} is part of it")
    return known[name]


def _scales(e: NcnnEmitter, node: Node) -> None:
    """Steps a unit, by output channel and of the input, in the file and in the table."""
    source, weights = (e.graph.tensor(name).quant for name in node.inputs[:2])
    assert source is not None and weights is not None  # is_int8 saw to it
    steps = [_inverse(weights), _inverse(source)]
    for values in steps:
        e.numbers(values)
    e.table[f"{node.name}_param_0"], e.table[node.name] = (list(map(float, values)) for values in steps)


def _inverse(quant: QuantParams) -> Any:
    return 1 / np.atleast_1d(np.asarray(quant.scale, np.float64))


# -- without weights --------------------------------------------------------------------------------------------


def _plain(kind: str, **fixed: Any) -> Rule:
    """A layer of one input whose parameters do not depend on the node; p0=… are parameters by number."""
    parameters = {int(key[1:]): value for key, value in fixed.items()}
    return lambda e, node: e.layer(kind, node.name, [e.get(node.inputs[0])], parameters)


def _leaky_relu(e: NcnnEmitter, node: Node) -> None:
    e.layer("ReLU", node.name, [e.get(node.inputs[0])], {0: float(node.attrs["alpha"])})


def _binary(number: int) -> Rule:
    """BinaryOp of two tensors of one shape; more are folded from left to right."""

    def rule(e: NcnnEmitter, node: Node) -> None:
        shapes = {e.shape(name) for name in node.inputs}
        if len(shapes) != 1 or any(e.graph.tensor(name).is_constant for name in node.inputs):
            raise e.refuse(node, "its operands must be computed and of one shape")
        activation = node.attrs.get("activation", "none")
        value = e.get(node.inputs[0])
        for index, name in enumerate(node.inputs[1:], 1):
            last = index == len(node.inputs) - 1
            out = node.name if last and activation == "none" else f"{node.name}_part{index}"
            e.layer("BinaryOp", out, [value, e.get(name)], {0: number})
            value = out
        if activation != "none":
            _ACTIVATIONS[activation](e, node, value)

    return rule


_ACTIVATIONS: dict[str, Callable[[NcnnEmitter, Node, str], None]] = {
    "relu": lambda e, node, value: e.layer("ReLU", node.name, [value], {}),
    "relu6": lambda e, node, value: e.layer("Clip", node.name, [value], {0: 0.0, 1: 6.0}),
    "leaky_relu": lambda e, node, value: e.layer("ReLU", node.name, [value], {0: float(node.attrs["alpha"])}),
}


def _concat(e: NcnnEmitter, node: Node) -> None:
    rank = len(e.shape(node.name))
    if node.attrs["axis"] % rank != rank - 1:
        raise e.refuse(node, "it joins along another axis than the channels")
    e.layer("Concat", node.name, [e.get(name) for name in node.inputs], {0: 0})


def _pool(kind: int) -> Rule:
    def rule(e: NcnnEmitter, node: Node) -> None:
        (height, width), (down, across) = node.attrs["kernel"], node.attrs["stride"]
        top, bottom, left, right = node.attrs["pad"]
        mode = 0 if node.attrs["ceil_mode"] else 1
        window = {1: width, 11: height, 2: across, 12: down, 3: left, 13: top, 14: right, 15: bottom, 5: mode}
        average = {6: int(node.attrs["count_include_pad"])} if kind else {}
        e.layer("Pooling", node.name, [e.get(node.inputs[0])], {0: kind} | window | average)

    return rule


def _resize(e: NcnnEmitter, node: Node) -> None:
    """Nearest rounds positions down, as ours does without half pixels; bilinear has half pixels, or aligned corners."""
    nearest, (_, height, width, _) = node.attrs["mode"] == "nearest", e.shape(node.name)
    half, align = node.attrs["half_pixel"], node.attrs["align_corners"]
    if nearest == (half or align):
        raise e.refuse(node, "ncnn places the samples elsewhere")
    scale = [float(s) for s in node.attrs["scale"]]
    parameters = {0: 1 if nearest else 2, 1: scale[0], 2: scale[1], 3: height, 4: width, 6: int(align)}
    e.layer("Interp", node.name, [e.get(node.inputs[0])], parameters)


def _reshape(e: NcnnEmitter, node: Node) -> None:
    """One pixel to a vector: any other reshape would need ncnn's order of elements to be ours."""
    before, after = e.shape(node.inputs[0]), e.shape(node.name)
    if len(after) != 2 or math.prod(before[:-1]) != 1:
        raise e.refuse(node, "only a map of one pixel becomes a vector")
    e.layer("Reshape", node.name, [e.get(node.inputs[0])], {0: blob_shape(after, node.name)[0]})


NCNN_RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv2d", "transposed_conv2d", "linear"), _layer),
    "depthwise_conv2d": _depthwise,
    "relu": _plain("ReLU"),
    "relu6": _plain("Clip", p0=0.0, p1=6.0),
    "leaky_relu": _leaky_relu,
    "sigmoid": _plain("Sigmoid"),
    "silu": _plain("Swish"),
    "tanh": _plain("TanH"),
    "hard_sigmoid": _plain("HardSigmoid", p0=1 / 6, p1=0.5),
    "hard_swish": _plain("HardSwish", p0=1 / 6, p1=0.5),
    "add": _binary(0),
    "sub": _binary(1),
    "mul": _binary(2),
    "div": _binary(3),
    "concat": _concat,
    "max_pool": _pool(0),
    "avg_pool": _pool(1),
    "resize": _resize,
    "reshape": _reshape,
}
"""Operator → rule of the ncnn writer."""
