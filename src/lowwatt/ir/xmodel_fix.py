"""How operators are written in a compiled .xmodel: integer ones (`-fix`), and float ones of the host (docs/dpu.md 4.8).

The counterpart of xmodel_emit, which writes what the vendor's compiler reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops.activation import hard_input_fix_point
from lowwatt.ir.ops.checks import fail, pads, pair
from lowwatt.ir.xmodel_emit import ACTIVATION_TYPES, emit
from lowwatt.types import QuantParams

Attrs = dict[str, Any]

NONLINEAR = {
    "none": "NONE",
    "relu": "RELU",
    "relu6": "RELU6",
    "leaky_relu": "LEAKYRELU",
    "hard_sigmoid": "HSIGMOID",
    "hard_swish": "HSWISH",
}
_UNSET = -128


def emit_fix(graph: Graph, node: Node) -> tuple[str, Attrs] | None:
    """Type and attributes of a node that computes on integers; None where only a float operator can stand for it.

    A move of the fix point and a lone activation are eltwise-fix of one operand, as the machine does them. Convolutions
    and pools state the padding that is used: -fix operators round the number of windows down.
    """
    if node.op not in _EMITTERS or node.attrs.get("round_mode", "DPU_ROUND") != "DPU_ROUND":
        return None
    kind, emitter = _EMITTERS[node.op]
    return kind, emitter(graph, node)


def emit_float(graph: Graph, node: Node) -> tuple[str, Attrs, str]:
    """Type and attributes of a float node of the host, and the type of its activation ("" for none)."""
    activation = node.attrs.get("activation", "none")
    if activation not in ("none", *ACTIVATION_TYPES):
        raise fail(node, f"a compiled .xmodel has no float operator with {activation}")
    if node.op == "softmax":
        return "softmax", {"axis": node.attrs["axis"] % len(graph.tensor(node.name).shape)}, ""
    if node.op == "linear":  # on integers always: the reader takes it for that again
        return "matmul", {"transpose_a": False, "transpose_b": True}, ACTIVATION_TYPES.get(activation, "")
    if node.op in _FLOAT:
        return _FLOAT[node.op], {}, ""
    kind, _, attrs = emit(graph, node, node.inputs)
    return kind, attrs, ACTIVATION_TYPES.get(activation, "")


def pointwise(node: Node, out: Tensor, inputs: int, outputs: int) -> Attrs:
    """Attributes of a fully connected layer as a 1x1 convolution."""
    ones: Attrs = {key: [1, 1] for key in ("kernel", "stride", "dilation")}
    return {**ones, "pad": [0, 0, 0, 0], **_nonlinear(node, out.quant), **_about(node, inputs, outputs), "group": 1}


def _nonlinear(node: Node, quant: QuantParams | None) -> Attrs:
    """Activation, and what fused hard-sigmoid and hard-swish state besides (docs/dpu.md 3.7)."""
    activation = node.attrs.get("activation", "none")
    shifts: Attrs = {"hsigmoid_in": _UNSET, "shift_hsigmoid": _UNSET, "shift_hswish": _UNSET}
    if activation in ("hard_sigmoid", "hard_swish") and quant is not None:
        given, out = hard_input_fix_point(node, quant), quant.fix_point
        shifts["hsigmoid_in"] = given
        shifts["shift_hsigmoid"] = 14 + given - (7 if activation == "hard_swish" else out)
        if activation == "hard_swish":
            shifts["shift_hswish"] = given + 7 - out
    return {"nonlinear": NONLINEAR[activation], **shifts}


def _window(graph: Graph, node: Node, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Attrs:
    """Kernel, stride and the padding that makes the output by rounding down."""
    top, _, left, _ = pads(node)
    source, out = graph.tensor(node.inputs[0]).shape[1:3], graph.tensor(node.name).shape[1:3]
    stride = pair(node, "stride")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    used = [(out[axis] - 1) * stride[axis] + reach[axis] - source[axis] for axis in (0, 1)]
    bottom, right = max(0, used[0] - top), max(0, used[1] - left)
    return {"kernel": [kernel[1], kernel[0]], "stride": [stride[1], stride[0]], "pad": [left, right, top, bottom]}


def _convolution(graph: Graph, node: Node) -> Attrs:
    weights = graph.tensor(node.inputs[1]).shape
    dilation = node.attrs.get("dilation", (1, 1))
    channels, out = graph.tensor(node.inputs[0]).shape[-1], graph.tensor(node.name).shape[-1]
    attrs: Attrs = {
        **_window(graph, node, (weights[1], weights[2]), dilation),
        **_nonlinear(node, graph.tensor(node.name).quant),
        **_about(node, channels, out),
        "dilation": [dilation[1], dilation[0]],
        "group": channels if node.op == "depthwise_conv2d" else node.attrs.get("group", 1),
    }
    if node.op == "transposed_conv2d":
        top, bottom, left, right = pads(node)
        attrs["pad"] = [left, right, top, bottom]
    return attrs


def _about(node: Node, inputs: int, outputs: int) -> Attrs:
    """What the vendor's exporter says of a convolution, and its compiler keeps."""
    return {"pad_mode": "FLOOR", "bias_term": len(node.inputs) > 2, "in_dim": inputs, "out_dim": outputs}


def _pool(graph: Graph, node: Node) -> Attrs:
    kind = "MAX" if node.op == "max_pool" else "AVG"
    return {**_window(graph, node, pair(node, "kernel")), "type": kind}


def _eltwise(graph: Graph, node: Node) -> Attrs:
    shifts = _nonlinear(node, graph.tensor(node.name).quant)
    shown = shifts if shifts["nonlinear"].startswith("HS") else {"nonlinear": shifts["nonlinear"]}
    return {**shown, "type": "MUL" if node.op == "mul" else "ADD"}


def _single(graph: Graph, node: Node) -> Attrs:
    return {"nonlinear": NONLINEAR.get(node.op, "NONE"), "type": "ADD"}


def _hard_sigmoid(graph: Graph, node: Node) -> Attrs:
    given, out = graph.tensor(node.inputs[0]).quant, graph.tensor(node.name).quant
    assert given is not None and out is not None  # it computes on integers
    return {"hsigmoid_in": given.fix_point, "shift_hsigmoid": 14 + given.fix_point - out.fix_point}


def _pads(graph: Graph, node: Node) -> Attrs:
    """The constant in steps of the output."""
    mode, quant = node.attrs["mode"], graph.tensor(node.name).quant
    attrs: Attrs = {"paddings": list(node.attrs["pads"]), "mode": mode.upper()}
    if mode == "constant" and node.attrs["value"] and quant is not None:
        attrs["constant_values"] = quantize(np.array([node.attrs["value"]]), quant).tobytes()
    return attrs


def _attributes(graph: Graph, node: Node) -> Attrs:
    return emit(graph, node, node.inputs)[2]


def _mean(graph: Graph, node: Node) -> Attrs:
    """The vendor's library has no such operator: like a custom one it says what it gives."""
    return {**_attributes(graph, node), "shape": list(graph.tensor(node.name).shape), "data_type": "XINT8"}


_EMITTERS: dict[str, tuple[str, Callable[[Graph, Node], Attrs]]] = {
    "conv2d": ("conv2d-fix", _convolution),
    "depthwise_conv2d": ("depthwise-conv2d-fix", _convolution),
    "transposed_conv2d": ("transposed-conv2d-fix", _convolution),
    "max_pool": ("pool-fix", _pool),
    "avg_pool": ("pool-fix", _pool),
    "add": ("eltwise-fix", _eltwise),
    "mul": ("eltwise-fix", _eltwise),
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "identity", "fix"), ("eltwise-fix", _single)),
    "hard_sigmoid": ("hard-sigmoid-fix", _hard_sigmoid),
    "concat": ("concat-fix", _attributes),
    "slice": ("strided_slice-fix", _attributes),
    "pad": ("pad-fix", _pads),
    "resize": ("upsample-fix", _attributes),
    "reshape": ("reshape-fix", _attributes),
    "reduce_max": ("reduction_max-fix", _attributes),
    "reduce_mean": ("reduction_mean-fix", _mean),
}

_FLOAT = {name: name for name in ("sigmoid", "tanh", "exp", "sqrt", "neg", "sub", "div", "pow")}
_FLOAT |= {"silu": "swish", "hard_swish": "hard-swish"}
"""Float operators beside those that the vendor's compiler takes."""


def arguments(node: Node, operands: Sequence[str]) -> dict[str, list[str]]:
    """Producers by argument."""
    if node.op == "linear":
        return {"input": list(operands[:2]), **({"bias": list(operands[2:])} if operands[2:] else {})}
    if "conv2d" in node.op:
        return {key: [one] for key, one in zip(("input", "weights", "bias"), operands, strict=False)}
    return {"input": list(operands)}
