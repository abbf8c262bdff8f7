"""Operators whose QDQ form differs from the float form: sums with guard bits, the DPU's averages, biases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import dpu_average_factor, quantize, reciprocal, shift
from lowwatt.ir.graph import Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.onnx_ops import (
    RULES,
    chained,
    onnx_pads,
    onnx_weights,
    operands,
    padded,
    reduce_operand,
    resized,
    weighted,
)
from lowwatt.ir.onnx_qdq_emit import FLOAT_LIMIT, Grid, QdqEmitter
from lowwatt.ir.ops.pooling import reach
from lowwatt.ir.ops.reduction import reduced_axes
from lowwatt.ir.ops.resize import bilinear_taps
from lowwatt.types import Array

Rule = Callable[[QdqEmitter, Node], None]

_POSITIVE = ("relu", "relu6", "hard_sigmoid")


def _layer(e: QdqEmitter, node: Node) -> None:
    """Convolution or linear layer. The bias is floored to half an accumulator step, as the DPU does it, and carries
    the half step of the rounding, unless an activation comes in between that would scale it.
    """
    weights, total = e.data(node, 1), e.fix(node.inputs[0]) + e.fix(node.inputs[1])
    doubled = doubled_bias(e, node, total)
    halves = int(np.any(doubled % 2))
    digits = total + halves
    positive = _never_negative(e, node.inputs[0])
    bound = (_greatest_sum(node, weights, positive) + float(np.abs(doubled).max()) / 2) * 2.0**halves
    if 2 * bound + 1 > FLOAT_LIMIT:
        e.notes.append(
            f"{node.name}: a sum could reach {bound:.3g} steps; float32 is exact up to {FLOAT_LIMIT / 2:.3g}"
        )
    direct = node.attrs["activation"] in ("none", "relu", "relu6") and digits > e.fix(node.name)
    half = math.ldexp(1.0, -digits - 1) if direct else 0.0
    real = (np.ldexp(doubled, -total - 1) + half).astype(np.float32)
    e.grids[node.name] = Grid(digits, bound, nudged=direct)
    laid = e.stored(node.inputs[1], onnx_weights(node, weights))
    bias = [e.constant(f"{node.name}.bias.real", real)] if np.any(real) else []
    weighted(e, node, laid, e.biased(node, bias))


def doubled_bias(e: QdqEmitter, node: Node, total: int) -> NDArray[np.float64]:
    """floor(2 * bias * 2**shift_bias), one number an output channel, zeros where there is no bias."""
    if len(node.inputs) < 3:
        return np.zeros(e.shape(node.name)[-1])
    return np.floor(shift(e.data(node, 2), total - e.fix(node.inputs[2]) + 1))


def _greatest_sum(node: Node, weights: Array, positive: bool) -> float:
    """The greatest that a sum of products, or a part of it, can be in any output channel."""
    axes = (1, 2) if node.op == "depthwise_conv2d" else tuple(range(1, weights.ndim))
    signed = weights.astype(np.int64)
    up, down = (np.maximum(s, 0).sum(axis=axes) for s in (signed, -signed))
    return float(127 * np.maximum(up, down).max() if positive else 128 * (up + down).max())


def _never_negative(e: QdqEmitter, name: str) -> bool:
    """True where a value comes out of a relu, perhaps by way of operators that copy."""
    nodes = {node.name: node for node in e.graph.nodes}
    node = nodes.get(name)
    while node is not None and node.op in ("max_pool", "resize", "slice", "reshape", "transpose", "identity"):
        node = nodes.get(node.inputs[0])
    if node is None:
        return False
    if node.op == "concat":
        return all(_never_negative(e, source) for source in node.inputs)
    return node.op in _POSITIVE or node.attrs.get("activation") in _POSITIVE


def _add(e: QdqEmitter, node: Node) -> None:
    """Operands much finer than the coarsest are floored to two guard bits below it first."""
    values, nchw = operands(e, node)
    points = [e.fix(name) for name in node.inputs]
    finest = min(points) + 2
    floored = [
        _floored(e, v, finest, f"{node.name}.{i}") if p > finest else v
        for i, (v, p) in enumerate(zip(values, points, strict=True))
    ]
    digits = max(min(p, finest) for p in points)
    e.grids[node.name] = Grid(digits, sum(128 * 2.0 ** (digits - p) for p in points))
    e.finish(node, chained(e, node, "Add", floored), nchw)


def _floored(e: QdqEmitter, value: str, digits: int, name: str) -> str:
    """The value floored to a multiple of 2**-digits."""
    up, down = (e.number(math.ldexp(1.0, d), f"power.{d}") for d in (digits, -digits))
    whole = e.op("Floor", [e.op("Mul", [value, up], f"{name}.steps")], f"{name}.floor")
    return e.op("Mul", [whole, down], f"{name}.aligned")


def _mul(e: QdqEmitter, node: Node) -> None:
    if len(node.inputs) > 3:
        raise ToolError("a product of more than three tensors is not exact in float32", where=node.name)
    values, nchw = operands(e, node)
    e.grids[node.name] = Grid(sum(e.fix(name) for name in node.inputs), 2.0 ** (7 * len(values)))
    e.finish(node, chained(e, node, "Mul", values), nchw)


def _max_pool(e: QdqEmitter, node: Node) -> None:
    e.finish(node, e.op("MaxPool", [e.get(node.inputs[0], True)], f"{node.name}.pool", **_window(e, node)), True)


def _avg_pool(e: QdqEmitter, node: Node) -> None:
    """A convolution with ones, times the DPU's N / 2**M."""
    if any(node.attrs["pad"]) and not node.attrs["count_include_pad"]:
        raise ToolError("the DPU's average counts the padding", where=node.name, hint="set count_include_pad")
    channels, kernel = e.shape(node.name)[3], tuple(node.attrs["kernel"])
    ones = e.constant(f"{node.name}.ones", np.ones((channels, 1, *kernel), np.float32))
    value = e.op("Conv", [e.get(node.inputs[0], True), ones], f"{node.name}.sum", group=channels, **_window(e, node))
    factor, digits = dpu_average_factor(kernel)
    _scaled(e, node, math.prod(kernel), factor, digits)
    e.finish(node, value, True)


def _window(e: QdqEmitter, node: Node) -> dict[str, Any]:
    """Window of a pool, with the padding that ceil mode adds stated."""
    pads = onnx_pads(reach(node, e.shape(node.inputs[0])))
    return {"kernel_shape": list(node.attrs["kernel"]), "strides": list(node.attrs["stride"]), "pads": pads}


def _reduce_mean(e: QdqEmitter, node: Node) -> None:
    """A sum times the reciprocal of each axis."""
    shape = e.shape(node.inputs[0])
    parts = [reciprocal(shape[axis]) for axis in reduced_axes(node, len(shape))]
    value, axes, nchw = reduce_operand(e, node)
    keep = int(node.attrs["keepdims"])
    value = e.op("ReduceSum", [value, e.ints(axes, f"{node.name}.axes")], f"{node.name}.sum", keepdims=keep)
    count = math.prod(shape[axis] for axis in reduced_axes(node, len(shape)))
    _scaled(e, node, count, math.prod(n for n, _ in parts), sum(m for _, m in parts))
    e.finish(node, value, nchw)


def _scaled(e: QdqEmitter, node: Node, count: int, factor: int, digits: int) -> None:
    """The node's value, a sum of `count` operands, still has to be multiplied by factor / 2**digits."""
    bound = 128.0 * count * factor
    e.grids[node.name] = Grid(e.fix(node.inputs[0]) + digits, bound, factor=math.ldexp(factor, -digits))


def _pad(e: QdqEmitter, node: Node) -> None:
    out = e.graph.tensor(node.name).quant
    assert out is not None  # write() saw to it
    fill = out.dequantize(quantize(np.asarray(node.attrs["value"]), out))
    nchw = e.is_nchw(node.inputs[0])
    e.finish(node, padded(e, node, e.get(node.inputs[0], nchw), nchw, float(fill)), nchw)


def _resize(e: QdqEmitter, node: Node) -> None:
    if node.attrs["mode"] != "nearest":
        before, after = e.shape(node.inputs[0]), e.shape(node.name)
        more = sum(_weight_digits(bilinear_taps(node, before[d], after[d])[2], node) for d in (1, 2))
        e.grids[node.name] = Grid(e.fix(node.inputs[0]) + more, 128 * 2.0**more)
    e.finish(node, resized(e, node, e.get(node.inputs[0], True)), True)


def _weight_digits(weights: NDArray[np.float64], node: Node) -> int:
    """Binary digits of the interpolation weights; ToolError where they have no end."""
    for digits in range(9):
        if not np.any(np.ldexp(weights, digits) % 1):
            return digits
    raise ToolError("this interpolation is not exact in float32", where=node.name, hint="scale by a power of two")


def _fix(e: QdqEmitter, node: Node) -> None:
    source, mode = node.inputs[0], node.attrs["round_mode"]
    nchw = e.is_nchw(source)
    value = e.get(source, nchw)
    out = e.graph.tensor(node.name).quant
    assert out is not None  # write() saw to it
    if mode != "DPU_ROUND":
        value = e.rounded_real(value, out, mode)
        e.grids[node.name] = Grid(out.fix_point, 0)
    e.finish(node, value, nchw)


def _copy(e: QdqEmitter, node: Node) -> None:
    """The operand itself: what there is to do is done when the node is finished."""
    nchw = e.is_nchw(node.inputs[0])
    e.finish(node, e.get(node.inputs[0], nchw), nchw)


_SAME = ("concat", "slice", "reshape", "transpose", "reduce_max")
"""Operators that copy: their float form, then a Q/DQ pair."""

QDQ_RULES: dict[str, Rule] = {
    **{name: RULES[name] for name in _SAME},
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear"), _layer),
    **dict.fromkeys(("identity", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish"), _copy),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "reduce_mean": _reduce_mean,
    "add": _add,
    "mul": _mul,
    "pad": _pad,
    "resize": _resize,
    "fix": _fix,
}
"""Operator → rule of the QDQ writer: what has an integer form."""


def write_node(e: QdqEmitter, node: Node) -> None:
    """The node by its QDQ rule, or in a float island by that of the float writer."""
    rules: Mapping[str, Rule] = QDQ_RULES if on_integers(e.graph, node) else RULES
    rules[node.op](e, node)


ALL_RULES: dict[str, Rule] = dict.fromkeys([*QDQ_RULES, *RULES], write_node)
"""Operator → rule, for every operator that can stand in a quantized graph."""
