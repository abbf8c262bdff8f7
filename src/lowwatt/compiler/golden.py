"""The golden input and output that a program of a quantized graph carries: the integer reference's answer to noise."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib import format as npy

from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class Golden:
    """Integers by tensor name: what goes in, and what the integer reference gives."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def differences(self, graph: Graph) -> int:
        """Output elements that the integer reference gives otherwise today."""
        found = interpreter.run(graph, self.inputs)
        return sum(int(np.count_nonzero(found[name] != array)) for name, array in self.outputs.items())

    def pack(self) -> dict[str, bytes]:
        """Members of an archive."""
        return {**_pack("input", self.inputs.values()), **_pack("output", self.outputs.values())}

    @classmethod
    def unpack(cls, graph: Graph, members: Mapping[str, bytes]) -> Golden | None:
        """What `pack` made, for the graph's own inputs and outputs; None where the archive has none."""
        if not any(name.startswith("golden/") for name in members):
            return None
        return cls(_unpack(graph, members, "input", graph.inputs), _unpack(graph, members, "output", graph.outputs))


def make_golden(graph: Graph) -> Golden | None:
    """Golden input (fixed noise over each input's whole range) and output; None for a graph that is not quantized."""
    if not graph.is_quantized:
        return None
    random = np.random.default_rng(0)
    inputs = {name: _noise(graph, name, random) for name in graph.inputs}
    return Golden(inputs, interpreter.run(graph, inputs))


def _noise(graph: Graph, name: str, random: np.random.Generator) -> Array:
    tensor = graph.tensor(name)
    if tensor.quant is None:
        raise ToolError("the input is not quantized", where=name)
    return random.integers(tensor.quant.qmin, tensor.quant.qmax, tensor.shape, tensor.dtype, endpoint=True)


def _pack(kind: str, arrays: Iterable[Array]) -> dict[str, bytes]:
    return {f"golden/{kind}/{index:03d}.npy": _npy(array) for index, array in enumerate(arrays)}


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _unpack(graph: Graph, members: Mapping[str, bytes], kind: str, names: list[str]) -> dict[str, Array]:
    arrays = {}
    for index, name in enumerate(names):
        member = f"golden/{kind}/{index:03d}.npy"
        if member not in members:
            raise ToolError("the program's file is damaged", why=f"it holds no {member}")
        arrays[name] = npy.read_array(io.BytesIO(members[member]), allow_pickle=False)
        if arrays[name].shape != graph.tensor(name).shape:
            raise ToolError("the program's file is damaged", why=f"{member} has not the shape of {name}")
    return arrays
