"""Segment: what runs on one side between two crossings; on the accelerator with its memory map and instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lowwatt.compiler.dram import Dram
from lowwatt.compiler.isa import Instruction, assemble
from lowwatt.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What a layer is called, does and comes from; `nodes` are the graph's nodes that it stands for."""

    name: str
    op: str
    origin: str
    nodes: tuple[str, ...]
    macs: int


@dataclass(slots=True)
class Segment:
    """A part of a network on one side.

    On the accelerator: `layers` in order, `dram` says where its maps and constants lie, and `instructions` are the
    program, of which number k belongs to layer `owners[k]`. A segment of the host has its graph alone.
    """

    side: Literal["dpu", "host"]
    graph: Graph
    layers: Sequence[LayerInfo] = ()
    dram: Dram = field(default_factory=lambda: Dram({}, {}))
    instructions: Sequence[Instruction] = ()
    owners: Sequence[int] = ()

    @property
    def code(self) -> bytes:
        """The instruction words."""
        return assemble(self.instructions)

    def ranges(self) -> Iterator[tuple[LayerInfo, range]]:
        """Each layer with the positions of its instructions."""
        start = 0
        for index, layer in enumerate(self.layers):
            stop = start
            while stop < len(self.owners) and self.owners[stop] == index:
                stop += 1
            yield layer, range(start, stop)
            start = stop
