"""Where the constants and the maps of a program lie in DRAM."""

from __future__ import annotations

from math import prod

import numpy as np

from lowwatt.compiler.dram import CONSTANTS, INPUTS, OUTPUTS, WORKSPACE, Dram, Lifetime, Region, allocate
from lowwatt.compiler.lowering import numbers
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.lowering.legalize import MOVES, copies
from lowwatt.compiler.subject import FeatureMap
from lowwatt.ir.graph import Graph

_ALIGNMENT = 16
"""Bytes: every constant, input and output begins at a multiple of it."""


class Constants:
    """The bytes of register 0: what layers need beside their maps."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._addresses: dict[str, int] = {}

    def at(self, key: str, values: np.ndarray) -> int:
        """Address of some bytes, which are put down the first time that their key comes."""
        if key not in self._addresses:
            self._bytes.extend(b"\0" * (-len(self._bytes) % _ALIGNMENT))
            self._addresses[key] = len(self._bytes)
            self._bytes.extend(np.ascontiguousarray(values).tobytes())
        return self._addresses[key]

    def all(self) -> bytes:
        """Everything that was put down so far."""
        return bytes(self._bytes)


def place(graph: Graph, layers: list[Layer], constants: Constants, ahead: int) -> Dram:
    """Region of every map that a layer reads or writes; `ahead`: bytes left free before the first map of a register.

    Members of a concat lie between one another's channels, other names for the same bytes on them, and maps of the
    workspace that are not needed at the same time over one another.
    """
    return _Placement(graph, layers, constants, ahead).run()


class _Placement:
    def __init__(self, graph: Graph, layers: list[Layer], constants: Constants, ahead: int) -> None:
        self._graph, self._layers, self._constants, self._ahead = graph, layers, constants, ahead
        self._producers, self._copies = graph.producers(), set(copies(graph))
        self._constant_names = {t.name for t in graph.constants()}
        self._parents: dict[str, tuple[str, int]] = {}
        """For each member of a concat its name and the member's first channel."""
        for node in graph.nodes:
            if node.op == "concat":
                offset = 0
                for name in node.inputs:
                    self._parents[name] = (node.name, offset)
                    offset += graph.tensor(name).shape[-1]
        self._sizes: dict[int, int] = {}
        self._addresses: dict[str, tuple[int, int]] = {}

    def run(self) -> Dram:
        self._place_outside()
        self._place_workspace()
        names = {name for layer in self._layers for name in (*_reads(layer), layer.name)}
        regions = {n: self._region(n) for n in (*sorted(names), *self._graph.outputs, *self._graph.inputs)}
        held = self._constants.all()
        return Dram(regions, {**self._sizes, CONSTANTS: len(held)}, held)

    def _place_outside(self) -> None:
        """Inputs and outputs, one after another."""
        for register, names in ((INPUTS, self._graph.inputs), (OUTPUTS, self._graph.outputs)):
            self._sizes[register] = self._ahead
            for name in map(self._owner, dict.fromkeys(names)):
                if register == INPUTS or name not in self._addresses:
                    self._addresses[name] = (register, self._sizes[register])
                    self._sizes[register] += -(-self._bytes(name) // _ALIGNMENT) * _ALIGNMENT

    def _place_workspace(self) -> None:
        """All other maps, each for as long as a layer still reads it."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for index, layer in enumerate(self._layers):
            first.setdefault(self._owner(layer.name), index)
            for name in (layer.name, *_reads(layer)):
                last[self._owner(name)] = index
        inner = [name for name in first if name not in self._addresses]
        placed, total = allocate(Lifetime(n, self._bytes(n), first[n], last[n]) for n in inner)
        self._sizes[WORKSPACE] = self._ahead + total
        self._addresses |= {name: (WORKSPACE, self._ahead + at) for name, at in placed.items()}

    def _owner(self, name: str) -> str:
        """Whose bytes a tensor lies in: its concat's, its source's, or its own."""
        if name in self._parents:
            return self._owner(self._parents[name][0])
        source = self._moved(name)
        return name if source is None else self._owner(source)

    def _moved(self, name: str) -> str | None:
        """The tensor of which this one is another view; None where it has bytes of its own."""
        node = self._producers.get(name)
        return node.inputs[0] if node is not None and node.op in MOVES and name not in self._copies else None

    def _region(self, name: str) -> Region:
        size = FeatureMap.of(self._graph.tensor(name).shape)
        if name in self._parents:
            parent, offset = self._parents[name]
            return self._region(parent).part(offset, size.channels)
        source = self._moved(name)
        if source is not None:
            return self._view(name, self._region(source), size)
        if name in self._constant_names:
            values = numbers.integers(self._graph, name)
            return Region.dense(CONSTANTS, self._constants.at(name, values), size)
        return Region.dense(*self._addresses[name], size)

    def _view(self, name: str, base: Region, size: FeatureMap) -> Region:
        """A slice's channels of its source, or the source's bytes in another shape."""
        node = self._producers[name]
        if node.op == "slice":
            return base.part(int(node.attrs["begin"][-1]), size.channels)
        return base if base.channels == size.channels and base.bytes == size.elements else base.shaped(size)

    def _bytes(self, name: str) -> int:
        shape = self._graph.tensor(name).shape
        return prod(shape[1:]) if len(shape) > 1 else prod(shape)


def _reads(layer: Layer) -> tuple[str, ...]:
    return (layer.input, *(layer.misc.operands if layer.misc else ()))
