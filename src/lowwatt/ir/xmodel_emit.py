"""How each operator of the graph is written to an .xmodel file: type, arguments, attributes (docs/dpu.md 4.3, 4.4).

The counterpart of xmodel_types: the graph says (height, width), the file (width, height).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops.checks import fail, pads, pair

Attrs = dict[str, Any]
Args = dict[str, list[str]]
Emitter = Callable[[Graph, Node], Attrs]

ACTIVATION_TYPES = {"relu": "relu", "relu6": "relu6", "leaky_relu": "leaky-relu"}


def emit(graph: Graph, node: Node, operands: Sequence[str]) -> tuple[str, Args, Attrs]:
    """Type, producers by argument and attributes of `node`; ToolError where the format has no such operator."""
    if node.op not in _EMITTERS:
        raise fail(node, "an .xmodel file for the compiler has no such operator")
    kind, emitter = _EMITTERS[node.op]
    return kind, _args(node, list(operands)), emitter(graph, node)


def _args(node: Node, operands: list[str]) -> Args:
    if node.op == "linear":
        return {"input": operands[:2], **({"bias": operands[2:]} if operands[2:] else {})}
    if node.op in ("conv2d", "depthwise_conv2d", "transposed_conv2d"):
        return {key: [o] for key, o in zip(("input", "weights", "bias"), operands, strict=False)}
    return {"input": operands}


def _swapped(values: Sequence[Any]) -> list[Any]:
    return [values[1], values[0]]


def _pad(node: Node) -> list[int]:
    top, bottom, left, right = pads(node)
    return [left, right, top, bottom]


def _conv(graph: Graph, node: Node) -> Attrs:
    attrs: Attrs = {
        "kernel": _swapped(graph.tensor(node.inputs[1]).shape[1:3]),
        "stride": _swapped(pair(node, "stride")),
        "dilation": _swapped(node.attrs.get("dilation", (1, 1))),
        "pad": _pad(node),
        "pad_mode": "FLOOR",
    }
    return {**attrs, "group": node.attrs["group"]} if node.op == "conv2d" else attrs


def _pool(graph: Graph, node: Node) -> Attrs:
    kernel, stride = pair(node, "kernel"), pair(node, "stride")
    attrs: Attrs = {"kernel": _swapped(kernel), "stride": _swapped(stride), "pad": _pad(node), "global": False}
    attrs["pad_mode"] = "CEIL" if node.attrs["ceil_mode"] else "FLOOR"
    if node.attrs["ceil_mode"]:
        _check_ceil(graph, node)
    if node.op == "avg_pool":
        attrs |= {"count_include_pad": bool(node.attrs["count_include_pad"]), "count_include_invalid": True}
    return attrs


def _check_ceil(graph: Graph, node: Node) -> None:
    """The format's CEIL keeps a last window that begins in the padding; ours, as PyTorch's, does not."""
    size, out = graph.tensor(node.inputs[0]).shape[1:3], graph.tensor(node.name).shape[1:3]
    top, bottom, left, right = pads(node)
    kernel, stride = pair(node, "kernel"), pair(node, "stride")
    for i, pad in enumerate((top + bottom, left + right)):
        if math.ceil((size[i] + pad - kernel[i]) / stride[i]) + 1 != out[i]:
            raise fail(node, "ceil_mode gives another size in an .xmodel", hint="use explicit padding instead")


def _resize(graph: Graph, node: Node) -> Attrs:
    return {
        "scale": [float(s) for s in _swapped(node.attrs["scale"])],
        "mode": node.attrs["mode"].upper(),
        "align_corners": bool(node.attrs["align_corners"]),
        "half_pixel_centers": bool(node.attrs["half_pixel"]),
    }


def _pads(graph: Graph, node: Node) -> Attrs:
    attrs: Attrs = {"paddings": list(node.attrs["pads"]), "mode": node.attrs["mode"].upper()}
    return {**attrs, "constant_values": [float(node.attrs["value"])]} if node.attrs["value"] else attrs


def _slice(graph: Graph, node: Node) -> Attrs:
    return {key: list(node.attrs[key]) for key in ("begin", "end", "strides")}


def _concat(graph: Graph, node: Node) -> Attrs:
    return {"axis": node.attrs["axis"] % len(graph.tensor(node.name).shape)}


def _reduce(graph: Graph, node: Node) -> Attrs:
    return {"axis": list(node.attrs["axes"]), "keep_dims": bool(node.attrs["keepdims"])}


def _none(graph: Graph, node: Node) -> Attrs:
    return {}


_EMITTERS: dict[str, tuple[str, Emitter]] = {
    "conv2d": ("conv2d", _conv),
    "depthwise_conv2d": ("depthwise-conv2d", _conv),
    "transposed_conv2d": ("transposed-conv2d", _conv),
    "linear": ("matmul", lambda graph, node: {"transpose_a": False, "transpose_b": True}),
    "max_pool": ("maxpool2d", _pool),
    "avg_pool": ("avgpool2d", _pool),
    "add": ("add", _none),
    "mul": ("mul", _none),
    "relu": ("relu", _none),
    "relu6": ("relu6", _none),
    "leaky_relu": ("leaky-relu", lambda graph, node: {"alpha": float(node.attrs["alpha"])}),
    "hard_sigmoid": ("hard-sigmoid", _none),
    "concat": ("concat", _concat),
    "slice": ("strided_slice", _slice),
    "pad": ("pad", _pads),
    "resize": ("resize", _resize),
    "reshape": ("reshape", lambda graph, node: {"shape": list(node.attrs["shape"])}),
    "transpose": ("transpose", lambda graph, node: {"order": list(node.attrs["order"])}),
    "reduce_mean": ("reduction_mean", _reduce),
    "reduce_max": ("reduction_max", _reduce),
}
