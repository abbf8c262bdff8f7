"""Programs that the vendor's compiler left in .xmodel files, with the operators that they compute: a test of `sim`.

Such a file has its operators, the place of every map in DRAM, all constants as one block of bytes, and the words. What
the operators mean is asked of the integer reference, what the words do of the simulator: equal integers show that the
simulator reads every field as the vendor's compiler wrote it (docs/dpu.md 8.7). Files of Vitis AI 1.4 and later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.compiler.dram import CONSTANTS
from lowwatt.compiler.isa import ISA0, ISA1, Instruction, decode
from lowwatt.compiler.partition import subgraph
from lowwatt.compiler.xmodel_parts import Place
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel_op import XOp
from lowwatt.ir.xmodel_proto import decode as value_of
from lowwatt.ir.xmodel_proto import messages
from lowwatt.sim.execute import Executor
from lowwatt.sim.state import Bytes, Memory
from lowwatt.targets import Target, load_target
from lowwatt.types import Array, QuantParams

_COPIES = ("upload", "download", "identity", "fix2float")


@dataclass(frozen=True, slots=True)
class GenuineProgram:
    """Words, and `graph`: the operators that they compute, with the constants that the words load.

    `places`: where maps of the graph lie in DRAM. `sizes`: bytes of each register. `layer`: the program is that of a
    single layer, which the file has beside the whole one.
    """

    name: str
    target: Target
    instructions: list[Instruction]
    sizes: Mapping[int, int]
    constants: bytes
    graph: Graph
    places: Mapping[str, Place]
    layer: bool

    def noise(self, seed: int = 0) -> dict[str, Array]:
        """Inputs of every value that there is."""
        random, tensors = np.random.default_rng(seed), [self.graph.tensor(name) for name in self.graph.inputs]
        return {one.name: random.integers(-128, 128, one.shape).astype(np.int8) for one in tensors}

    def differences(
        self, inputs: Mapping[str, Array], order: Sequence[int] | None = None
    ) -> dict[str, tuple[int, int]]:
        """For each output how many elements words and reference give otherwise, and of how many; one image."""
        values, found = interpreter.execute(self.graph, inputs), self.run(inputs, order)
        wanted = {name: values[name].reshape(map_.shape) for name, map_ in found.items()}
        return {name: (int(np.count_nonzero(found[name] != wanted[name])), wanted[name].size) for name in found}

    def run(self, inputs: Mapping[str, Array], order: Sequence[int] | None = None) -> dict[str, Array]:
        """Outputs that the words give for one image, without the axis of images.

        `order`: positions of the instructions in the order of execution (`isa.legal_order`), else as they stand.
        """
        memory = Memory(self.target, self.sizes, {CONSTANTS: self.constants})
        for name, value in inputs.items():
            self._map(memory, name)[...] = value.reshape(self.places[name].shape)
        executor = Executor(memory)
        for index in range(len(self.instructions)) if order is None else order:
            executor.execute(self.instructions[index])
        return {name: self._map(memory, name).copy() for name in self.graph.outputs}

    def _map(self, memory: Memory, name: str) -> Bytes:
        place = self.places[name]
        return memory.map(place.register, place.address, place.shape, place.stride)


def genuine_programs(path: str | Path) -> list[GenuineProgram]:
    """Programs of a compiled .xmodel, the whole ones before those of their layers.

    Programs of layers whose inputs or outputs do not lie in DRAM are left out. ToolError for other files.
    """
    graph, message = xmodel.read(path), messages()["Graph"]()
    message.ParseFromString(Path(path).read_bytes())
    reader = _Reader(graph, {op.op_name: XOp.of(op) for op in message.op_node})
    found = [reader.program(part, child) for part in message.subg_root.subg_child for child in _coded(part)]
    if not found:
        raise ToolError("the file holds no DPU code", where=str(path), hint="only vai_c_xir's compiled .xmodel has any")
    return [program for program in found if program.graph.outputs and _lies_in_dram(program)]


def _lies_in_dram(program: GenuineProgram) -> bool:
    return all(name in program.places for name in (*program.graph.inputs, *program.graph.outputs))


def _coded(part: Any) -> Iterator[Any]:
    """A subgraph of the accelerator, and its layers that have programs of their own."""
    if "mc_code" in part.subg_attr:
        yield part
        yield from (leaf for leaf in part.subg_child if "mc_code" in leaf.subg_attr)


class _Reader:
    """Makes programs of one file; what a layer's subgraph does not say is as the one around it says."""

    def __init__(self, graph: Graph, ops: Mapping[str, XOp]) -> None:
        self._graph, self._ops = graph, ops
        self._tensors: dict[str, str] = {op: tensor for tensor, op in graph.meta["xmodel"].items()}
        self._part: dict[str, Any] = {}

    def program(self, part: Any, child: Any) -> GenuineProgram:
        """Program of a subgraph `child` of `part`, or of `part` itself."""
        of_part = {key: value_of(value) for key, value in part.subg_attr.items()}
        code, isa = value_of(child.subg_attr["mc_code"]), (ISA0, ISA1)[of_part["dpu_fingerprint"] >> 48 & 0xFF]
        constants = bytes(of_part["reg_id_to_parameter_value"]["REG_0"])
        names = [name for leaf in (child.subg_child or [child]) for name in leaf.op_name]
        graph = self._operators(names, constants)
        return GenuineProgram(
            child.subgraph_name.removeprefix("subgraph_"),
            load_target(f"{of_part['dpu_fingerprint']:#x}"),
            decode(code, isa),
            {int(key.removeprefix("REG_")): int(size) for key, size in of_part["reg_id_to_size"].items()},
            constants,
            graph,
            self._places(names, graph),
            child is not part,
        )

    def _operators(self, names: list[str], constants: bytes) -> Graph:
        inside = set(names)
        graph = subgraph(self._graph, [node for node in self._graph.nodes if node.name in inside])
        for tensor in list(graph.constants()):
            start, size = self._ops[tensor.name].tensor_attrs["ddr_addr"], math.prod(tensor.shape)
            tensor.data = np.frombuffer(constants[start : start + size], np.int8).reshape(tensor.shape)
        for node in graph.nodes:
            _settle_bias(graph, node.inputs)
        return graph

    def _places(self, names: list[str], graph: Graph) -> dict[str, Place]:
        """Of maps in DRAM; what an operator outside handed on lies where its reader's `upload`, or itself, says."""
        read = [name for op in names for name in self._ops[op].inputs()]
        found = {}
        for name in (*read, *names):
            op = self._ops[name]
            tensor, attrs = self._tensor(op), op.tensor_attrs
            if tensor in graph.tensors and attrs.get("location") == 1 and "stride" in attrs:
                shape, stride = op.shape[1:], tuple(attrs["stride"])[1:]
                found[tensor] = Place(attrs["reg_id"], attrs["ddr_addr"], shape, stride)
        return found

    def _tensor(self, op: XOp) -> str:
        """Tensor of the graph that holds an operator's values."""
        while op.type in _COPIES:
            op = self._ops[op.inputs()[0]]
        return self._tensors.get(op.name, op.name)


def _settle_bias(graph: Graph, inputs: list[str]) -> None:
    """A bias finer than half an accumulator step lies in the constants shifted down to it; its fix point is the old one
    (docs/dpu.md 8.3)."""
    if len(inputs) != 3:
        return
    data, weights, bias = (graph.tensor(name) for name in inputs)
    if bias.is_constant and data.quant is not None and weights.quant is not None and bias.quant is not None:
        finest = data.quant.fix_point + weights.quant.fix_point + 1
        bias.quant = QuantParams.power_of_two(min(bias.quant.fix_point, finest))
