"""A quantized graph as an .xmodel file of the kind that the vendor's compiler takes: float operators with `fix`.

What a file holds that it accepted is in docs/dpu.md 4.5: names of [0-9A-Za-z_], a `fix` behind every quantized
value and parameter, parameters stored on their grid, activations unfused, the DPU's factor as a `mul` behind an average
or a hard-sigmoid, the outputs in return_ops.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.arithmetic import HARD_SIGMOID_FIX_POINT
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.ops.activation import hard_input_fix_point
from lowwatt.ir.xmodel_emit import ACTIVATION_TYPES, emit
from lowwatt.ir.xmodel_fold import dpu_factor
from lowwatt.ir.xmodel_proto import encode, messages
from lowwatt.types import Array, QuantParams, Shape

_FLOAT = (4, 32)  # Tensor.data_type and bit width (docs/dpu.md 4.1)


def write(graph: Graph, path: str | Path) -> None:
    """Write a quantized graph (int8, fix points) to `path`; the same graph always gives the same bytes.

    A tensor's name becomes its layer's name with every other character than [0-9A-Za-z] as `_`. hard_swish, which
    the format's float operators lack, becomes hard-sigmoid and mul. ToolError for a graph that is not quantized,
    other number formats, and operators that the format does not have.
    """
    _check(graph)
    writer = _Writer(graph)
    for name in graph.inputs:
        writer.add_input(name)
    for node in graph.nodes:
        writer.add_node(node)
    write_bytes(path, writer.finish())


def _check(graph: Graph) -> None:
    for tensor in graph.tensors.values():
        if tensor.quant is not None and not tensor.quant.is_fixed_point:
            why = f"an .xmodel is for the DPU, whose scales are powers of two; this one is {tensor.quant.scale}"
            raise ToolError("the tensor has no fix point", where=tensor.name, why=why[:200], hint="--scheme vitis")
    island = next((node for node in graph.nodes if not on_integers(graph, node) and node.op != "fix"), None)
    if graph.has_integers and island is not None:
        raise ToolError(
            f"an .xmodel for the compiler cannot hold {island.op} in float",
            where=island.name,
            hint="end the graph before it, or replace it (lowwatt check --rewrite); --format qdq takes it",
        )
    for name, tensor in graph.tensors.items():
        if tensor.quant is None and name not in graph.inputs:
            raise ToolError(
                "the graph is not quantized", where=name, why="an .xmodel for the compiler is", hint="lowwatt quantize"
            )
        if tensor.quant is not None and (tensor.quant.bits, tensor.quant.signed) != (8, True):
            raise ToolError("an .xmodel takes signed 8-bit tensors only", where=name, why=f"it is {tensor.quant}")
        if tensor.data is not None and tensor.data.shape != tensor.shape:
            raise ToolError("the constant holds no data", where=name, why="the file it came from left it out")


class _Writer:
    """Builds the message; `value` maps each tensor to the operator that holds its value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.message = messages()["Graph"](graph_name=graph.name)
        self.value: dict[str, str] = {}
        self.used: set[str] = set()
        self.names = {name: self._unique(name) for name in graph.tensors}
        self.readers = graph.consumers()

    def _unique(self, name: str) -> str:
        base = re.sub("[^0-9A-Za-z]", "_", name) or "_"
        name, number = base, 0
        while name in self.used:
            number += 1
            name = f"{base}_{number}"
        self.used.add(name)
        return name

    def _op(
        self,
        name: str,
        kind: str,
        shape: Shape,
        args: Mapping[str, Sequence[str]],
        attrs: Mapping[str, Any] | None = None,
    ) -> str:
        op = self.message.op_node.add(op_name=name, op_type=kind)
        for argument, producers in args.items():
            op.args.add(arg_name=argument, arg_ops=producers)
        for key, value in (attrs or {}).items():
            encode(op.op_attr[key], value)
        op.output_tensor.tensor_name = name
        op.output_tensor.tensor_dim.extend(shape)
        op.output_tensor.data_type, op.output_tensor.tensor_bit_width = _FLOAT
        return name

    def _fix(self, before: str, shape: Shape, quant: QuantParams, mode: str = "DPU_ROUND", name: str = "") -> str:
        attrs = {"fix_point": quant.fix_point, "bit_width": 8, "round_mode": mode, "if_signed": True}
        return self._op(name or self._unique(f"{before}_fix"), "fix", shape, {"input": [before]}, attrs)

    def _const(self, name: str, data: Array) -> str:
        shape = data.shape or (1,)
        attrs = {"shape": list(shape), "data_type": "FLOAT32", "data": data.astype("<f4").tobytes()}
        return self._op(name, "const", shape, {}, attrs)

    def add_input(self, name: str) -> None:
        tensor = self.graph.tensor(name)
        attrs = {"shape": list(tensor.shape), "data_type": "FLOAT32"}
        op = self._op(self.names[name], "data", tensor.shape, {}, attrs)
        self.value[name] = op if tensor.quant is None else self._fix(op, tensor.shape, tensor.quant)

    def _operand(self, name: str) -> str:
        """Operator that holds the tensor's value; a constant is written at its first use, with one reader: its fix."""
        if name not in self.value:
            tensor = self.graph.tensor(name)
            assert tensor.data is not None and tensor.quant is not None  # _check saw to it
            op = self._const(self.names[name], tensor.quant.dequantize(tensor.data))
            self.value[name] = self._fix(op, tensor.shape, tensor.quant)
        return self.value[name]

    def add_node(self, node: Node) -> None:
        operands = [self._operand(i) for i in node.inputs]
        tensor = self.graph.tensor(node.name)
        assert tensor.quant is not None
        name, shape = self.names[node.name], tensor.shape
        if node.op in ("fix", "identity"):
            mode = node.attrs.get("round_mode", "DPU_ROUND")
            self.value[node.name] = self._fix(operands[0], shape, tensor.quant, mode, name)
        elif node.op == "hard_swish":
            self.value[node.name] = self._gate(name, operands[0], shape, tensor.quant, swish=True)
        elif node.attrs.get("activation") in ("hard_sigmoid", "hard_swish"):
            quant = QuantParams.power_of_two(hard_input_fix_point(node, tensor.quant))
            before = self._fix(self._compute(node, operands, self._unique(f"{name}_i"), shape), shape, quant)
            swish = node.attrs["activation"] == "hard_swish"
            self.value[node.name] = self._gate(name, before, shape, tensor.quant, swish)
        else:
            last = self._activation(node, self._compute(node, operands, name, shape), shape)
            self.value[node.name] = last if self._needs_no_fix(node) else self._fix(last, shape, tensor.quant)

    def _compute(self, node: Node, operands: Sequence[str], name: str, shape: Shape) -> str:
        """The operator itself, and the DPU's factor where it has one."""
        kind, args, attrs = emit(self.graph, node, operands)
        if node.op not in ("avg_pool", "hard_sigmoid"):
            return self._op(name, kind, shape, args, attrs)
        before = self._op(self._unique(f"{name}_i0"), kind, shape, args, attrs)
        return self._times(name, before, shape, dpu_factor(node))

    def _times(self, name: str, before: str, shape: Shape, factor: np.float32) -> str:
        constant = self._const(self._unique(f"{name}_i1"), np.array([factor], np.float32))
        return self._op(name, "mul", shape, {"input": [before, constant]})

    def _activation(self, node: Node, before: str, shape: Shape) -> str:
        kind = ACTIVATION_TYPES.get(node.attrs.get("activation", "none"))
        if kind is None:
            return before
        attrs = {"alpha": float(node.attrs["alpha"])} if kind == "leaky-relu" else {}
        return self._op(self._unique(f"{before}_act"), kind, shape, {"input": [before]}, attrs)

    def _gate(self, name: str, before: str, shape: Shape, quant: QuantParams, swish: bool) -> str:
        """hard-sigmoid of an 8-bit value, and for hard-swish its product with that value (docs/dpu.md 3.7)."""
        gate = self._unique(f"{name}_gate") if swish else name
        raw = self._op(self._unique(f"{gate}_i0"), "hard-sigmoid", shape, {"input": [before]})
        scaled = self._times(gate, raw, shape, dpu_factor(Node(gate, "hard_sigmoid", [])))
        if not swish:
            return self._fix(scaled, shape, quant)
        fixed = self._fix(scaled, shape, QuantParams.power_of_two(HARD_SIGMOID_FIX_POINT))
        return self._fix(self._op(name, "mul", shape, {"input": [before, fixed]}), shape, quant)

    def _needs_no_fix(self, node: Node) -> bool:
        """As the vendor's exporter: none behind a moved layout, nor between relu and a concat of its own fix point.

        In front of an addition there always is one: only then does the reference floor to guard bits
        (docs/dpu.md 3.10).
        """
        if node.name in self.graph.outputs or not self.readers[node.name]:
            return False
        quant, readers = self.graph.tensor(node.name).quant, self.readers[node.name]
        if node.op in ("reshape", "transpose"):
            same = quant == self.graph.tensor(node.inputs[0]).quant
            return same and all(r.op not in ("add", "fix", "identity") for r in readers)
        is_relu = node.op == "relu" or node.attrs.get("activation") == "relu"
        return is_relu and all(r.op == "concat" and self.graph.tensor(r.name).quant == quant for r in readers)

    def finish(self) -> bytes:
        outputs = list(dict.fromkeys(self._operand(name) for name in self.graph.outputs))
        if not outputs:
            raise ToolError("the graph has no outputs", where=self.graph.name)
        encode(self.message.graph_attr["return_ops"], outputs)
        self.message.subg_root.subgraph_name = "root"
        self.message.subg_root.op_name.extend(op.op_name for op in self.message.op_node)
        data: bytes = self.message.SerializeToString(deterministic=True)
        return data
