"""Segment: an accelerator's program for one part of a network, from graph to instruction words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lowwatt.compiler.dram import Dram
from lowwatt.compiler.isa import Instruction, assemble
from lowwatt.compiler.lowering.build import Builder
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.lowering.legalize import legalize
from lowwatt.compiler.lowering.stream import emit_layer
from lowwatt.compiler.lowering.tiling import tile
from lowwatt.compiler.synchronise import synchronise
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target


@dataclass(slots=True)
class Segment:
    """Instructions of one accelerator part; `owners[k]` is the index of the layer that instruction k belongs to."""

    graph: Graph
    layers: list[Layer]
    dram: Dram
    instructions: Sequence[Instruction]
    owners: Sequence[int]

    @property
    def code(self) -> bytes:
        """The instruction words."""
        return assemble(self.instructions)


def compile_segment(graph: Graph, target: Target, schedule: str = "vendor") -> Segment:
    """Instructions of a graph whose every node runs on the accelerator."""
    layers, dram = Builder(legalize(graph), target, lambda layer: _fits(layer, target)).run()
    emitter, drains = Emitter(target), []
    for index, layer in enumerate(layers):
        emitter.layer = index
        drains.append(len(emitter.instructions))
        emit_layer(layer, tile(layer, target), dram, emitter)
    emitter.emit("END")
    tokens = synchronise(emitter.instructions, target, dram.sizes, drains if schedule == "vendor" else ())
    return Segment(graph, layers, dram, tokens, emitter.layers)


def _fits(layer: Layer, target: Target) -> bool:
    try:
        tile(layer, target)
    except ToolError:
        return False
    return True
