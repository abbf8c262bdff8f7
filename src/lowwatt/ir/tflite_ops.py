"""How each operator is said in TFLite: in int8 where all around it is, else in float between what quantizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lowwatt.ir.graph import Node
from lowwatt.ir.ops.activation import ACTIVATIONS
from lowwatt.ir.ops.layout import pad_widths, slices
from lowwatt.ir.ops.reduction import reduced_axes
from lowwatt.ir.tflite_emit import TfliteEmitter
from lowwatt.ir.tflite_layers import activated, curve, layer
from lowwatt.ir.tflite_window import avg_pool, max_pool, pad
from lowwatt.types import QuantParams

Rule = Callable[[TfliteEmitter, Node], None]

UNIT = QuantParams(1 / 256, -128)
"""The one int8 format that LOGISTIC and SOFTMAX make (LiteRT 8-bit quantization specification)."""

SIGNED_UNIT = QuantParams(1 / 128)
"""That of TANH."""

_NEAR = 0.98
"""A finer output than what an operator makes would be a copy of its coarse steps; float keeps it."""

_MIRROR_SYMMETRIC = 1
"""The schema's MirrorPadMode."""


# -- element by element -----------------------------------------------------------------------------------------


def _unary(kind: str) -> Rule:
    """An operator of each element alone, in float."""
    return lambda e, node: e.finish(node, e.op(kind, [e.real(node.inputs[0])], e.shape(node.name), None, node.name))


def _curve(e: TfliteEmitter, node: Node) -> None:
    """An activation that has int8 between any two formats."""
    quant = e.quant(node.name) if e.integers(node) else None
    value = e.real(node.inputs[0]) if quant is None else e.get(node.inputs[0])
    e.finish(node, curve(e, node, node.op, value, quant))


def _bounded(kind: str, format: QuantParams) -> Rule:
    """An operator whose int8 output has one format."""

    def rule(e: TfliteEmitter, node: Node) -> None:
        given, made = _bounded_ends(e, node, format)
        e.finish(node, e.op(kind, [given], e.shape(node.name), made, f"{node.name}.value"))

    return rule


def _bounded_ends(e: TfliteEmitter, node: Node, format: QuantParams) -> tuple[int, QuantParams | None]:
    """What such an operator reads, and the format that it makes."""
    quant = e.quant(node.name) if e.integers(node) else None
    if quant is None or not np.all(np.asarray(quant.scale) >= _NEAR * np.asarray(format.scale)):
        return e.real(node.inputs[0]), None
    return e.get(node.inputs[0]), format


def _silu(e: TfliteEmitter, node: Node) -> None:
    quant = e.quant(node.name) if e.integers(node) else None
    value = e.real(node.inputs[0]) if quant is None else e.get(node.inputs[0])
    gate = e.op("LOGISTIC", [value], e.shape(node.name), quant and UNIT, f"{node.name}.gate")
    e.finish(node, e.op("MUL", [value, gate], e.shape(node.name), quant, node.name))


def _clip(e: TfliteEmitter, node: Node) -> None:
    """In float; an infinite limit is left out."""
    value, shape = e.real(node.inputs[0]), e.shape(node.name)
    for kind, key in (("MAXIMUM", "min"), ("MINIMUM", "max")):
        limit = float(node.attrs[key])
        if not math.isinf(limit):
            bound = e.constant(f"{node.name}.{key}", np.full((1,) * len(shape), limit, np.float32))
            value = e.op(kind, [value, bound], shape, None, f"{node.name}.{key}")
    e.finish(node, value)


def _elementwise(kind: str, eight: bool) -> Rule:
    """Of two or more values, from left to right; int8 is for two, for a sum in between would have no format."""

    def rule(e: TfliteEmitter, node: Node) -> None:
        quant = e.quant(node.name) if eight and e.integers(node) and len(node.inputs) == 2 else None
        values = [e.real(name) if quant is None else e.get(name) for name in node.inputs]
        total = values[0]
        for value in values[1:-1]:
            shape = np.broadcast_shapes(e.tensors[total].shape, e.tensors[value].shape)
            total = e.op(kind, [total, value], shape, None, f"{node.name}.part")

        def make(fused: int, format: QuantParams | None, name: str) -> int:
            fields = {} if kind == "POW" else {"FusedActivationFunction": fused}
            return e.op(kind, [total, values[-1]], e.shape(node.name), format, name, fields)

        e.finish(node, activated(e, node, make, quant) if len(values) > 1 else total)

    return rule


def _batch_norm(e: TfliteEmitter, node: Node) -> None:
    """A product and a sum of constants by channel."""
    tensors = [e.graph.tensor(name) for name in node.inputs[1:]]
    if any(tensor.data is None for tensor in tensors):
        raise e.refuse(node, "its constants are computed")
    scale, bias, mean, variance = (np.asarray(tensor.data, np.float64) for tensor in tensors)
    factor, shape = scale / np.sqrt(variance + node.attrs["eps"]), e.shape(node.name)
    steps = (("MUL", factor), ("ADD", bias - mean * factor))
    value = e.real(node.inputs[0])
    for kind, numbers in steps:
        constant = e.constant(f"{node.name}.{kind.lower()}", numbers.astype(np.float32))
        value = e.op(kind, [value, constant], shape, None, f"{node.name}.value")
    e.finish(node, value)


def _softmax(e: TfliteEmitter, node: Node) -> None:
    """Over the last axis; another one is brought there."""
    rank = len(e.shape(node.name))
    order = [axis for axis in range(rank) if axis != node.attrs["axis"] % rank] + [node.attrs["axis"] % rank]
    value, made = _bounded_ends(e, node, UNIT)
    value = _transposed(e, value, order, f"{node.name}.last")
    shape = tuple(e.shape(node.name)[axis] for axis in order)
    value = e.op("SOFTMAX", [value], shape, made, f"{node.name}.value", {"Beta": 1.0})
    e.finish(node, _transposed(e, value, np.argsort(order).tolist(), f"{node.name}.ordered"))


# -- moving elements --------------------------------------------------------------------------------------------


def _copy(e: TfliteEmitter, node: Node) -> None:
    e.finish(node, e.get(node.inputs[0]))


def _moved(kind: str, operands: Callable[[TfliteEmitter, Node], Sequence[int]]) -> Rule:
    """An operator that only moves elements, in the format of what it reads, with constants behind that."""

    def rule(e: TfliteEmitter, node: Node) -> None:
        value = e.get(node.inputs[0])
        quant = e.tensors[value].quant
        e.finish(node, e.op(kind, [value, *operands(e, node)], e.shape(node.name), quant, f"{node.name}.value"))

    return rule


def _reshape_operands(e: TfliteEmitter, node: Node) -> Sequence[int]:
    return [e.ints(f"{node.name}.shape", e.shape(node.name))]


def _transpose(e: TfliteEmitter, node: Node) -> None:
    e.finish(node, _transposed(e, e.get(node.inputs[0]), node.attrs["order"], f"{node.name}.value"))


def _transposed(e: TfliteEmitter, value: int, order: Sequence[int], name: str) -> int:
    """A value in another order of its axes; itself where the order is the same."""
    tensor = e.tensors[value]
    if list(order) == sorted(order):
        return value
    shape = tuple(tensor.shape[axis] for axis in order)
    return e.op("TRANSPOSE", [value, e.ints(f"{name}.order", order)], shape, tensor.quant, name)


def _slice(e: TfliteEmitter, node: Node) -> None:
    """SLICE, or STRIDED_SLICE where elements are left out."""
    value, taken = e.get(node.inputs[0]), slices(node, e.shape(node.inputs[0]))
    quant, shape, name = e.tensors[value].quant, e.shape(node.name), f"{node.name}.value"
    begin = e.ints(f"{node.name}.begin", [s.start for s in taken])
    if all(s.step == 1 for s in taken):
        size = e.ints(f"{node.name}.size", shape)
        return e.finish(node, e.op("SLICE", [value, begin, size], shape, quant, name))
    ends = [e.ints(f"{node.name}.end", [s.stop for s in taken]), e.ints(f"{node.name}.step", [s.step for s in taken])]
    return e.finish(node, e.op("STRIDED_SLICE", [value, begin, *ends], shape, quant, name))


def _concat(e: TfliteEmitter, node: Node) -> None:
    """All inputs in the format of the output, which int8 kernels want."""
    quant = e.quant(node.name)
    values = [e.at(name, quant) for name in node.inputs]
    axis = node.attrs["axis"] % len(e.shape(node.name))
    fields = {"Axis": axis, "FusedActivationFunction": 0}
    e.finish(node, e.op("CONCATENATION", values, e.shape(node.name), quant, node.name, fields))


def _pad(e: TfliteEmitter, node: Node) -> None:
    """In the format of the output, whose range the fill may need."""
    quant, widths = e.quant(node.name), pad_widths(node, e.shape(node.inputs[0]))
    value = e.at(node.inputs[0], quant)
    if node.attrs["mode"] == "constant":
        return e.finish(node, pad(e, node, value, widths, float(node.attrs["value"])))
    if any(max(width) > n for width, n in zip(widths, e.shape(node.inputs[0]), strict=True)):
        raise e.refuse(node, "it is wider than the map that it mirrors")
    operands = [value, e.constant(f"{node.name}.widths", np.asarray(widths, np.int32))]
    fields = {"Mode": _MIRROR_SYMMETRIC}
    return e.finish(node, e.op("MIRROR_PAD", operands, e.shape(node.name), quant, node.name, fields))


def _resize(e: TfliteEmitter, node: Node) -> None:
    value, nearest = e.get(node.inputs[0]), node.attrs["mode"] == "nearest"
    align = bool(node.attrs["align_corners"])
    fields = {"AlignCorners": align, "HalfPixelCenters": bool(node.attrs["half_pixel"]) and not align}
    operands = [value, e.ints(f"{node.name}.size", e.shape(node.name)[1:3])]
    kind = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    version = 3 if fields["HalfPixelCenters"] or (nearest and align) else 1
    quant = e.tensors[value].quant
    e.finish(node, e.op(kind, operands, e.shape(node.name), quant, f"{node.name}.value", fields, version))


def _reduce(kind: str, rescales: bool) -> Rule:
    """Over whole axes; MEAN has int8 between any two formats, a greatest keeps its own."""

    def rule(e: TfliteEmitter, node: Node) -> None:
        value = e.get(node.inputs[0]) if e.integers(node) or not rescales else e.real(node.inputs[0])
        quant = e.quant(node.name) if rescales and e.integers(node) else e.tensors[value].quant
        axes = e.ints(f"{node.name}.axes", reduced_axes(node, len(e.shape(node.inputs[0]))))
        fields = {"KeepDims": bool(node.attrs["keepdims"])}
        e.finish(node, e.op(kind, [value, axes], e.shape(node.name), quant, f"{node.name}.value", fields))

    return rule


TFLITE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear"), layer),
    **dict.fromkeys((name for name in ACTIVATIONS if name != "none"), _curve),
    **{name: _unary(name.upper()) for name in ("exp", "sqrt", "neg")},
    **dict.fromkeys(("identity", "fix"), _copy),
    "batch_norm": _batch_norm,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "sigmoid": _bounded("LOGISTIC", UNIT),
    "tanh": _bounded("TANH", SIGNED_UNIT),
    "softmax": _softmax,
    "silu": _silu,
    "clip": _clip,
    "add": _elementwise("ADD", eight=True),
    "mul": _elementwise("MUL", eight=True),
    "sub": _elementwise("SUB", eight=True),
    "div": _elementwise("DIV", eight=False),
    "pow": _elementwise("POW", eight=False),
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "reshape": _moved("RESHAPE", _reshape_operands),
    "transpose": _transpose,
    "reduce_mean": _reduce("MEAN", rescales=True),
    "reduce_max": _reduce("REDUCE_MAX", rescales=False),
}
"""Operator → rule of the TFLite writer."""
