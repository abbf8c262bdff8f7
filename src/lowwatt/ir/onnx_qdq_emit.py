"""Emitter of quantized graphs: puts activation, rounding and a Q/DQ pair behind every value (see onnx_qdq)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import HARD_SIGMOID_FIX_POINT, HARD_SIGMOID_SLOPE, integer_type
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.onnx_emit import Emitter
from lowwatt.ir.onnx_ops import clipped, real_activation
from lowwatt.ir.ops.activation import ACTIVATIONS, LEAKY_SLOPE, hard_input_fix_point
from lowwatt.types import Array, QuantParams

FLOAT_LIMIT = 2.0**24
"""Whole numbers up to here are exact in float32."""

_FLOAT, _DOUBLE = 1, 11
"""onnx.TensorProto.FLOAT and DOUBLE."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How exact a value is: factor * value is a multiple of 2**-digits, of at most `bound` such steps.

    `nudged`: half a step is in it already.
    """

    digits: int
    bound: float
    nudged: bool = False
    factor: float = 1.0

    def exact(self, fix_point: int) -> bool:
        """True where float32 holds the value, and half a step, up to where int8 at `fix_point` saturates."""
        return 2 * min(self.bound, math.ldexp(1.0, self.digits - fix_point + 8)) <= FLOAT_LIMIT


class QdqEmitter(Emitter):
    """Emitter of quantized graphs: finishing a node puts activation, rounding and a Q/DQ pair behind its value."""

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__(graph, opset)
        self.grids: dict[str, Grid] = {}
        """How exact a node's plain value is; rules set it, by default that of the finest operand."""

    # -- ends and constants -------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """A quantized input is rounded first, in double, for real inputs may lie anywhere."""
        tensor = self.graph.tensor(name)
        nchw = len(tensor.shape) == 4
        rounded = (
            name
            if tensor.quant is None
            else self.pair(self.rounded_real(name, tensor.quant, tensor.quant.rounding), tensor.quant, name)
        )
        self.place(name, nchw, rounded)

    def stored(self, tensor: str, data: Array, axis: int = 0) -> str:
        """A constant of the graph as integers behind a DequantizeLinear."""
        quant = self.graph.tensor(tensor).quant
        if quant is None:
            return super().stored(tensor, data)
        integers = self.constant(tensor, data.astype(_storage(quant, tensor, constant=True)))
        if isinstance(quant.scale, tuple):
            scale = self._scales(quant, tensor, data.shape[axis])
            return self.op("DequantizeLinear", [integers, *scale], f"{tensor}.real", axis=axis)
        return self.op("DequantizeLinear", [integers, *self.scale(quant, tensor)], f"{tensor}.real")

    def scale(self, quant: QuantParams, tensor: str) -> list[str]:
        """Scale and zero point of a number format; those that have a fix point share them."""
        kind = integer_type(quant)
        assert isinstance(quant.scale, float)  # only constants have a scale for each channel
        hint = f"scale.{quant.fix_point}" if quant.is_fixed_point else f"{tensor}.scale"
        zero = f"zero.{quant.zero_point}.{kind}" if quant.zero_point else f"zero.{kind}"
        return [self.number(quant.scale, hint), self.constant(zero, np.asarray(quant.zero_point, kind))]

    def _scales(self, quant: QuantParams, tensor: str, channels: int) -> list[str]:
        """Scales and zero points by channel. A depthwise layer has several output channels for each input channel."""
        scales = np.repeat(np.asarray(quant.scale, np.float32), channels // np.size(quant.scale))
        points = np.repeat(
            np.asarray(quant.zero_points or 0, integer_type(quant)), channels // max(1, len(quant.zero_points))
        )
        zeros = self.constant(f"{tensor}.zeros" if quant.zero_points else f"zeros.{channels}.{points.dtype}", points)
        return [self.constant(f"{tensor}.scales", scales), zeros]

    def fix(self, tensor: str) -> int:
        """Fix point of a tensor."""
        quant = self.graph.tensor(tensor).quant
        if quant is None:
            raise ToolError("a tensor carries no quantization", where=tensor)
        return quant.fix_point

    def pair(self, value: str, quant: QuantParams, name: str) -> str:
        """QuantizeLinear and DequantizeLinear, behind a Clip where the format is narrower than its ONNX type."""
        kind = np.iinfo(_storage(quant, name))
        if (quant.qmin, quant.qmax) != (kind.min, kind.max):
            low, high = quant.dequantize(np.array([quant.qmin, quant.qmax]))
            limits = [self.constant(f"{name}.{word}", np.asarray(x)) for word, x in (("low", low), ("high", high))]
            value = self.op("Clip", [value, *limits], f"{name}.clipped")
        integers = self.op("QuantizeLinear", [value, *self.scale(quant, name)], f"{name}.integers")
        return self.op("DequantizeLinear", [integers, *self.scale(quant, name)], f"{name}.real")

    # -- what follows a value -----------------------------------------------------------------------------

    def biased(self, node: Node, bias: list[str]) -> list[str]:
        """What a layer takes as its bias."""
        return bias

    def quantized(self, node: Node, value: str) -> str:
        """Activation, rounding and the Q/DQ pair."""
        out = self.graph.tensor(node.name).quant
        if out is None or not on_integers(self.graph, node):
            return self._left_island(node, real_activation(self, node, value), out)
        activation = node.op if node.op in ACTIVATIONS else node.attrs.get("activation", "none")
        if node.op in ("hard_sigmoid", "hard_swish"):
            return self.hard(node, value, self.fix(node.inputs[0]), out)
        grid = self.grids.get(node.name) or self._copied(node)
        if activation in ("hard_sigmoid", "hard_swish"):
            eight = QuantParams.power_of_two(hard_input_fix_point(node, out))
            value = self.settled(node, value, eight, grid, "none")
            return self.hard(node, value, eight.fix_point, out)
        return self.settled(node, value, out, grid, activation)

    def _left_island(self, node: Node, value: str, out: QuantParams | None) -> str:
        """A float node's value: as it is within an island, rounded where it leaves one."""
        if out is None:
            return value
        mode = node.attrs.get("round_mode", out.rounding)
        return self.pair(self.rounded_real(value, out, mode), out, node.name)

    def _copied(self, node: Node) -> Grid:
        """Grid of an operator that copies: that of its finest operand."""
        digits = max(self.fix(name) for name in node.inputs)
        return Grid(digits, max(128 * 2.0 ** (digits - self.fix(name)) for name in node.inputs))

    def settled(self, node: Node, value: str, out: QuantParams, grid: Grid, activation: str = "none") -> str:
        """The value times the grid's factor, activated, rounded half up to `out` and saturated."""
        if activation == "leaky_relu":
            if node.attrs["alpha"] != LEAKY_SLOPE:
                raise ToolError(f"leaky relu of slope {node.attrs['alpha']}", where=node.name, why="the DPU has 26/256")
            grid = replace(grid, digits=grid.digits + 7, bound=grid.bound * 128)
        rounds = grid.digits > out.fix_point and not grid.nudged
        if rounds and not grid.exact(out.fix_point):
            return self._settled_in_double(node, value, out, activation, grid.factor)
        if grid.factor != 1:
            value = self.op("Mul", [value, self.number(grid.factor, f"{node.name}.factor")], f"{node.name}.scaled")
        value = self._activation(node, value, activation)
        if rounds:
            half = self.number(math.ldexp(1.0, -grid.digits - 1), f"half.{grid.digits}")
            value = self.op("Add", [value, half], f"{node.name}.nudged")
        return self.pair(value, out, node.name)

    def _activation(self, node: Node, value: str, activation: str) -> str:
        if activation == "none":
            return value
        if activation == "relu6":
            return clipped(self, node, value, 0.0, 6.0)
        if activation == "leaky_relu":
            return self.op("LeakyRelu", [value], f"{node.name}.act", alpha=LEAKY_SLOPE)
        return self.op("Relu", [value], f"{node.name}.act")

    def hard(self, node: Node, value: str, fi: int, out: QuantParams) -> str:
        """hard_sigmoid of an 8-bit value, max(0, x + 3) * 2731/2**14, and for hard_swish times the value."""
        swish = "hard_swish" in (node.op, node.attrs.get("activation"))
        gate = QuantParams.power_of_two(HARD_SIGMOID_FIX_POINT) if swish else out
        if gate.fix_point < HARD_SIGMOID_FIX_POINT:
            raise ToolError(
                "hard_sigmoid needs an output fix point of 7", where=node.name, why=f"it is {out.fix_point}"
            )
        line = self.op("Add", [value, self.number(3.0, "three")], f"{node.name}.line")
        bound = (128 + 3 * 2.0**fi) * HARD_SIGMOID_SLOPE
        opened = self.settled(node, line, gate, Grid(fi + 14, bound, factor=HARD_SIGMOID_SLOPE / 2**14), "relu")
        if not swish:
            return opened
        product = self.op("Mul", [value, opened], f"{node.name}.product")
        return self.settled(node, product, out, Grid(fi + HARD_SIGMOID_FIX_POINT, 2.0**14))

    # -- rounding in double -------------------------------------------------------------------------------

    def _double(self, kind: str, value: str, number: float, name: str) -> str:
        hint = f"{name}.{kind.lower()}"
        return self.op(kind, [value, self.number(number, f"{hint}.operand", np.float64)], hint)

    def _cast(self, value: str, name: str, to: int) -> str:
        return self.op("Cast", [value], f"{name}.cast", to=to)

    def _settled_in_double(self, node: Node, value: str, out: QuantParams, activation: str, factor: float) -> str:
        name = node.name
        value = self._double("Mul", self._cast(value, name, _DOUBLE), factor, name)
        if activation == "leaky_relu":
            value = self.op("Max", [value, self._double("Mul", value, LEAKY_SLOPE, name)], f"{name}.act")
        elif activation != "none":
            value = self._double("Max", value, 0.0, name)
        if activation == "relu6":
            value = self._double("Min", value, 6.0, name)
        return self.pair(self._floored(value, out, name), out, name)

    def _floored(self, value: str, out: QuantParams, name: str) -> str:
        """floor(value / scale + 0.5) * scale of a double, as float32."""
        steps = self._double("Mul", value, math.ldexp(1.0, out.fix_point), name)
        whole = self.op("Floor", [self._double("Add", steps, 0.5, name)], f"{name}.floor")
        return self._cast(self._double("Mul", whole, math.ldexp(1.0, -out.fix_point), name), name, _FLOAT)

    def rounded_real(self, value: str, out: QuantParams, mode: str = "DPU_ROUND") -> str:
        """Any float32 value rounded to steps of `out`, in one of the three rounding modes.

        Where the scale is no power of two, QuantizeLinear's own will do, halves to even: hardly a value is a half then.
        """
        if mode == "PY3_ROUND" or not out.is_power_of_two:
            return value
        double = self._cast(value, value, _DOUBLE)
        if mode == "DPU_ROUND":
            return self._floored(double, out, value)
        size = self._floored(self.op("Abs", [double], f"{value}.abs"), out, value)
        return self.op("Mul", [size, self.op("Sign", [value], f"{value}.sign")], f"{value}.signed")


def _storage(quant: QuantParams, where: str, constant: bool = False) -> np.dtype[Any]:
    if quant.bits > 8 and not (constant and quant.bits == 32):
        why = "8 bits or fewer are supported, and 32 for constants"
        raise ToolError(f"{quant.bits}-bit tensors cannot be written as QDQ", where=where, why=why)
    return integer_type(quant)
