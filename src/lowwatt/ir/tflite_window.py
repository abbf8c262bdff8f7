"""Windows over maps in TFLite: padding that is SAME, VALID or an operator of its own, and the pools."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lowwatt.ir.arithmetic import dpu_average_factor
from lowwatt.ir.graph import Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.ops.pooling import reach
from lowwatt.ir.tflite_emit import TfliteEmitter
from lowwatt.types import QuantParams, Shape

Pair = tuple[int, int]

SAME, VALID = 0, 1
"""The schema's Padding."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window over a map (height, width): sizes of the map and of what comes out, reach of the kernel, padding."""

    before: Shape
    after: Shape
    kernel: Pair
    stride: Pair
    start: Pair

    @property
    def end(self) -> Pair:
        """Padding behind the map (bottom, right) that windows touch."""
        return self._each(lambda size, out, k, s, start: max((out - 1) * s + k - size - start, 0))

    @property
    def is_valid(self) -> bool:
        """Whether no window touches padding."""
        return self.start == self.end == (0, 0)

    @property
    def is_same(self) -> bool:
        """Whether the padding is TensorFlow's SAME: as many outputs as strides, the smaller half in front."""
        counts = self._each(lambda size, out, k, s, start: out - math.ceil(size / s))
        halves = self._each(lambda size, out, k, s, start: max((out - 1) * s + k - size, 0) // 2 - start)
        return counts == halves == (0, 0)

    def _each(self, rule: Callable[[int, int, int, int, int], int]) -> Pair:
        sizes = zip(self.before[1:3], self.after[1:3], self.kernel, self.stride, self.start, strict=True)
        height, width = (rule(*numbers) for numbers in sizes)
        return height, width


def padded(e: TfliteEmitter, node: Node, value: int, window: Window, fill: float = 0.0) -> tuple[int, int]:
    """The map as the operator reads it and the name of its padding; what is neither SAME nor VALID is put in by PAD."""
    if window.is_valid or window.is_same:
        return value, VALID if window.is_valid else SAME
    widths = [(0, 0), *zip(window.start, window.end, strict=True), (0, 0)]
    return pad(e, node, value, widths, fill), VALID


def pad(e: TfliteEmitter, node: Node, value: int, widths: Sequence[Pair], fill: float) -> int:
    """A constant around a map; a fill that is no number of its format is the least one."""
    tensor = e.tensors[value]
    shape = tuple(n + sum(width) for n, width in zip(tensor.shape, widths, strict=True))
    operands = [value, e.constant(f"{node.name}.widths", np.asarray(widths, np.int32))]
    if fill == 0:
        return e.op("PAD", operands, shape, tensor.quant, f"{node.name}.padded")
    least, most = np.finfo(np.float32).min, np.finfo(np.float32).max
    if tensor.quant is not None:
        least, most = tensor.quant.dequantize(np.array([tensor.quant.qmin, tensor.quant.qmax]))
    real = np.array([np.clip(fill, least, most)], np.float32)
    operands.append(e.convert(e.constant(f"{node.name}.fill", real), tensor.quant))
    return e.op("PADV2", operands, shape, tensor.quant, f"{node.name}.padded")


# -- pools ------------------------------------------------------------------------------------------------------


def max_pool(e: TfliteEmitter, node: Node) -> None:
    """The greatest; padding never wins."""
    value, padding = padded(e, node, e.get(node.inputs[0]), _window(e, node), -np.inf)
    e.finish(node, _pool(e, node, "MAX_POOL_2D", value, padding))


def avg_pool(e: TfliteEmitter, node: Node) -> None:
    """TFLite never counts SAME's padding, and its int8 pool keeps the scale: between two scales, or where the DPU has
    a factor of its own, a depthwise layer of equal weights does it.
    """
    window, quant = _window(e, node), e.quant(node.name) if e.integers(node) else None
    value = e.get(node.inputs[0]) if quant is not None else e.real(node.inputs[0])
    padding = VALID if window.is_valid else SAME
    if node.attrs["count_include_pad"] and any(node.attrs["pad"]) and not window.is_valid:
        value, padding = _counted(e, node, value, window), VALID
    elif not window.is_valid and not window.is_same:
        raise e.refuse(node, "windows at the border count fewer values", "set count_include_pad, or pad as SAME does")
    if quant is not None and padding == VALID and _rescales(e, node, quant):
        return e.finish(node, _averaging_layer(e, node, value, quant))
    return e.finish(node, _pool(e, node, "AVERAGE_POOL_2D", value, padding))


def _counted(e: TfliteEmitter, node: Node, value: int, window: Window) -> int:
    """The map with zeros around it, which count."""
    if any(t > c for t, c in zip(reach(node, window.before), node.attrs["pad"], strict=True)):
        raise e.refuse(node, "ceil_mode adds windows that count fewer values", "pad the map by an operator of its own")
    return pad(e, node, value, [(0, 0), *zip(window.start, window.end, strict=True), (0, 0)], 0.0)


def _factor(e: TfliteEmitter, node: Node) -> float:
    """What the sum of a window is multiplied by."""
    kernel = node.attrs["kernel"]
    if not on_integers(e.graph, node):
        return 1.0 / int(math.prod(kernel))
    number, digits = dpu_average_factor((kernel[0], kernel[1]))
    return math.ldexp(number, -digits)


def _rescales(e: TfliteEmitter, node: Node, quant: QuantParams) -> bool:
    own = _factor(e, node) * math.prod(node.attrs["kernel"]) != 1 and on_integers(e.graph, node)
    return bool(own or quant != e.quant(node.inputs[0]))


def _averaging_layer(e: TfliteEmitter, node: Node, value: int, quant: QuantParams) -> int:
    kernel, channels = node.attrs["kernel"], e.shape(node.name)[3]
    read, weights = e.tensors[value].quant, QuantParams(_factor(e, node))
    assert read is not None and isinstance(read.scale, float) and isinstance(weights.scale, float)
    ones = e.constant(f"{node.name}.weights", np.ones((1, *kernel, channels), np.int8), weights)
    none = QuantParams(read.scale * weights.scale, bits=32)
    zeros = e.constant(f"{node.name}.bias", np.zeros(channels, np.int64), none)
    fields = {"Padding": VALID, "StrideH": node.attrs["stride"][0], "StrideW": node.attrs["stride"][1]}
    fields["DepthMultiplier"] = 1
    return e.op("DEPTHWISE_CONV_2D", [value, ones, zeros], e.shape(node.name), quant, node.name, fields)


def _window(e: TfliteEmitter, node: Node) -> Window:
    top, _, left, _ = node.attrs["pad"]
    return Window(e.shape(node.inputs[0]), e.shape(node.name), node.attrs["kernel"], node.attrs["stride"], (top, left))


def _pool(e: TfliteEmitter, node: Node, kind: str, value: int, padding: int) -> int:
    (height, width), (down, across) = node.attrs["kernel"], node.attrs["stride"]
    fields = {"Padding": padding, "StrideH": down, "StrideW": across, "FilterHeight": height, "FilterWidth": width}
    return e.op(kind, [value], e.shape(node.name), e.tensors[value].quant, node.name, fields)
