"""QDQ of fix points for onnxruntime's integer kernels: exact with graph optimisation on, at the speed of INT8.

onnxruntime makes a QLinearConv of a convolution only if nothing stands between it and its QuantizeLinear and its bias
is int32 in steps of the accumulator; and it rounds halves to even where the DPU rounds up. Two ideas make it exact:

* The accumulator is raised by 128 output steps, through the bias, so that what is rounded is never negative, and the
  result is uint8 with zero point 0. Read as uint8 with zero point 128 it is the int8 value.
* The output scale is 2**-22 smaller than the power of two, so that halves lie a little above: they go up. Nothing else
  crosses a boundary, for values lie on a grid of 2**-cut steps.

A ReLU is a Clip between the integers. What does not meet the conditions is written as in `onnx_qdq_ops`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.onnx_ops import onnx_weights, weighted
from lowwatt.ir.onnx_qdq_emit import FLOAT_LIMIT, QdqEmitter
from lowwatt.ir.onnx_qdq_ops import ALL_RULES, Rule, doubled_bias, write_node
from lowwatt.ir.onnx_writer import DEFAULT_OPSET, emit
from lowwatt.types import Array, QuantParams

RAISED = 128
"""Zero point of the uint8 that stand for int8."""

NUDGE = 2.0**-22
"""Share by which output scales are smaller: 256 steps times it, and float32's error, stay below a grid of 2**-12."""

MAX_CUT = 12


def write(graph: Graph, path: str | Path, opset: int = DEFAULT_OPSET) -> list[str]:
    """Write a graph of fix points as `onnx_qdq.write` does, for onnxruntime with graph optimisation on.

    Returns notes: sums that might not fit float32, and layers that have no integer kernel. ToolError for a graph
    of other formats.

    >>> # onnx_qdq_fast.write(quantized, "net_int8.onnx")
    """
    other = next((t.name for t in graph.tensors.values() if t.quant is not None and not t.quant.is_fixed_point), None)
    if other is not None or not graph.has_integers:
        raise ToolError("this form is for fix points", where=other or graph.name, hint="--format qdq takes any scale")
    emitter = FastEmitter(graph, opset)
    write_bytes(path, emit(emitter, FAST_RULES))
    return emitter.notes


class FastEmitter(QdqEmitter):
    """Emitter whose int8 values are uint8 with zero point 128."""

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__(graph, opset)
        self.raised: set[str] = set()
        """Layers whose accumulators are raised."""
        self._late: dict[str, str] = {}

    def pair(self, value: str, quant: QuantParams, name: str) -> str:
        """QuantizeLinear and DequantizeLinear of the same integers, as uint8."""
        return super().pair(value, _unsigned(quant), name)

    def quantized(self, node: Node, value: str) -> str:
        """Activation, rounding and the pair; for a raised accumulator in the order that integer kernels have."""
        if node.name in self.raised:
            return self._lowered(node, value)
        if node.name in self._late:
            value = self.op("Sub", [value, self._late[node.name]], f"{node.name}.biased")
        return super().quantized(node, value)

    def biased(self, node: Node, bias: list[str]) -> list[str]:
        """No bias: it is subtracted behind the layer, where the optimiser does not round it to accumulator steps."""
        if bias:
            data = -self.constants[bias[0]]
            shape = (-1, *(1,) * (len(self.shape(node.name)) - 2)) if node.op != "linear" else (-1,)
            self._late[node.name] = self.constant(f"{node.name}.bias.negative", data.reshape(shape))
        return []

    def _lowered(self, node: Node, value: str) -> str:
        name, quant = node.name, _unsigned(QuantParams.power_of_two(self.fix(node.name)))
        scale = self.number(float(np.float32(quant.step(0) * (1 - NUDGE))), f"scale.{self.fix(name)}.nudged")
        value = self.op(
            "QuantizeLinear", [value, scale, self.constant("zero.uint8", np.asarray(0, np.uint8))], f"{name}.integers"
        )
        if node.attrs["activation"] != "none":
            six = min(127, math.ldexp(6.0, self.fix(name))) if node.attrs["activation"] == "relu6" else 127
            limits = [
                self.constant(f"limit.{limit}", np.asarray(limit, np.uint8)) for limit in (RAISED, RAISED + int(six))
            ]
            value = self.op("Clip", [value, *limits], f"{name}.act")
        return self.op("DequantizeLinear", [value, *self.scale(quant, name)], f"{name}.real")


def _unsigned(quant: QuantParams) -> QuantParams:
    """uint8 whose zero point is 128, for int8."""
    return QuantParams(quant.scale, RAISED, signed=False, rounding="PY3_ROUND")


def _layer(e: QdqEmitter, node: Node) -> None:
    bias = _raised_bias(e, node) if on_integers(e.graph, node) else None
    if bias is None or not isinstance(e, FastEmitter):
        e.notes.append(f"{node.name}: no integer kernel of onnxruntime rounds it as the DPU does; it runs in float")
        write_node(e, node)
        return
    e.raised.add(node.name)
    step = e.number(math.ldexp(1.0, -_digits(e, node)), f"scale.{_digits(e, node)}")
    integers = e.constant(f"{node.name}.bias.integers", bias)
    real = e.op(
        "DequantizeLinear",
        [integers, step, e.constant("zero.int32", np.asarray(0, np.int32))],
        f"{node.name}.bias.real",
    )
    laid = e.stored(node.inputs[1], onnx_weights(node, e.data(node, 1)))
    if node.op == "linear":
        e.finish(node, e.op("Gemm", [e.get(node.inputs[0]), laid, real], f"{node.name}.sum"), False)
    else:
        weighted(e, node, laid, [real])


def _digits(e: QdqEmitter, node: Node) -> int:
    """Binary digits of the accumulator behind the point."""
    return e.fix(node.inputs[0]) + e.fix(node.inputs[1])


def _raised_bias(e: QdqEmitter, node: Node) -> Array | None:
    """int32 biases in accumulator steps, raised; None where the layer cannot be exact in this form."""
    total = _digits(e, node)
    cut = total - e.fix(node.name)
    doubled = doubled_bias(e, node, total)
    steps = doubled / 2 + math.ldexp(RAISED, cut)
    whole = not np.any(doubled % 2) and float(np.abs(steps).max()) < FLOAT_LIMIT
    kernel = node.op != "linear" or len(e.shape(node.name)) == 2
    clips = node.attrs["activation"] in ("none", "relu", "relu6")
    return steps.astype(np.int32) if 0 <= cut <= MAX_CUT and whole and kernel and clips else None


FAST_RULES: dict[str, Rule] = ALL_RULES | dict.fromkeys(("conv2d", "depthwise_conv2d", "linear"), _layer)
"""Operator → rule of this writer."""
