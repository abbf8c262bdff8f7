"""Segment: what runs on one side between two crossings; on the accelerator with its memory map and instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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

    def positions(self) -> list[NDArray[np.intp]]:
        """For each layer the positions of its instructions, rising; they need not follow one another.

        >>> Segment("dpu", Graph(), [LayerInfo(name, "", "", (), 0) for name in "ab"], owners=[0, 1, 0]).positions()
        [array([0, 2]), array([1])]
        """
        owners = np.asarray(self.owners, np.intp)
        order = np.argsort(owners, kind="stable")
        bounds = np.searchsorted(owners[order], np.arange(len(self.layers) + 1))
        return [order[first:last] for first, last in pairwise(bounds)]
