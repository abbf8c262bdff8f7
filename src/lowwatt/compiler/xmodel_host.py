"""A segment of the host in a compiled .xmodel: a CPU subgraph (docs/dpu.md 4.8).

What computes on integers is written with its -fix operator where there is one. Float islands, and operators that have
none, stand between fix2float and float2fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowwatt.compiler.xmodel_file import Attrs, Form, XModelFile, number_format, subgraph, work
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.xmodel_fix import arguments, emit_fix, emit_float

_LIBRARY = "libvart-cpu-runner.so"
CPU_RUNNERS = {"ref": _LIBRARY, "sim": _LIBRARY, "run": _LIBRARY}


class Host:
    """Writes one segment; `fixed` and `real` map tensors to operators that hold their integers and values."""

    def __init__(self, file: XModelFile, graph: Graph, fixed: dict[str, str], real: dict[str, str]) -> None:
        self._file, self._graph, self._fixed, self._real = file, graph, fixed, real
        self._ops: list[str] = []

    def write(self, root: Any) -> None:
        """Add the subgraph."""
        for node in self._graph.nodes:
            emitted = emit_fix(self._graph, node) if on_integers(self._graph, node) else None
            if emitted is None:
                self._float(node)
            else:
                operands = [self._integers(name) for name in node.inputs]
                form = Form.of(self._graph.tensor(node.name))
                self._fixed[node.name] = self._op(node.name, emitted[0], form, arguments(node, operands), emitted[1])
        subgraph(root, self._ops[0], {"device": "CPU", "runner": CPU_RUNNERS, **work((0, 0))}, self._ops)

    def _op(self, name: str, kind: str, form: Form, args: Mapping[str, Sequence[str]], attrs: Attrs) -> str:
        self._ops.append(self._file.op(name, kind, form, args, {**attrs, "device": "CPU"}))
        return self._ops[-1]

    def _float(self, node: Node) -> None:
        """An operator on real values, and its way back to integers where its output is quantized."""
        operands = [self._values(name) for name in node.inputs]
        tensor, form = self._graph.tensor(node.name), Form(self._graph.tensor(node.name).shape)
        if node.op in ("fix", "identity"):
            value = operands[0]
        else:
            kind, attrs, activation = emit_float(self._graph, node)
            value = self._op(node.name, kind, form, arguments(node, operands), attrs)
            if activation:
                alpha = {"alpha": float(node.attrs["alpha"])} if activation == "leaky-relu" else {}
                value = self._op(f"{node.name}_act", activation, form, {"input": [value]}, alpha)
        if tensor.quant is None:
            self._real[node.name] = value
            return
        attrs = {**number_format(tensor.quant), "round_mode": node.attrs.get("round_mode", "DPU_ROUND")}
        name = node.name if node.op == "fix" else f"{node.name}_fix"
        self._fixed[node.name] = self._op(name, "float2fix", Form.of(tensor), {"input": [value]}, attrs)

    def _integers(self, name: str) -> str:
        """The operator that holds integers; a constant is written for each reader anew, as the CPU runner demands."""
        tensor = self._graph.tensor(name)
        return self._fixed[name] if tensor.data is None else self._constant(tensor)

    def _values(self, name: str) -> str:
        """The operator that holds real values; integers are converted once."""
        tensor = self._graph.tensor(name)
        if name in self._real:
            return self._real[name]
        if tensor.quant is None:
            return self._constant(tensor)
        args = {"input": [self._integers(name)]}
        self._real[name] = self._op(f"{name}_float", "fix2float", Form(tensor.shape), args, number_format(tensor.quant))
        return self._real[name]

    def _constant(self, tensor: Tensor) -> str:
        assert tensor.data is not None  # who has neither a value nor a producer was refused long ago
        self._ops.append(self._file.constant(tensor.name, tensor.data, tensor.quant, "CPU", None))
        return self._ops[-1]
