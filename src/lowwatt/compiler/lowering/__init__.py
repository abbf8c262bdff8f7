"""Lowering: from a graph that the accelerator takes whole to its instruction words.

legalize → build (layers, memory map) → tiling → stream (instructions) → synchronise (tokens).
"""

from __future__ import annotations

from lowwatt.compiler.lowering.build import Builder
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.lowering.legalize import legalize
from lowwatt.compiler.lowering.space import Space
from lowwatt.compiler.lowering.stream import emit_layer
from lowwatt.compiler.lowering.tiling import tile
from lowwatt.compiler.schedule import order_loads
from lowwatt.compiler.segment import LayerInfo, Segment
from lowwatt.compiler.synchronise import synchronise
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target

SCHEDULES = ("vendor", "best")


def lower(graph: Graph, target: Target, schedule: str = "vendor") -> Segment:
    """Program of a graph whose every node runs on the accelerator.

    Schedules: `vendor` sends every layer's map through DRAM and drains between layers, as the vendor's first compiler
    does; `best` is as fast as this compiler can make it. ToolError for a layer that does not fit, or an unknown
    schedule.
    """
    if schedule not in SCHEDULES:
        raise ToolError(f"unknown schedule {schedule}", hint=did_you_mean(schedule, SCHEDULES))
    layers, dram = Builder(legalize(graph), target, lambda layer: _fits(layer, target), schedule == "best").run()
    emitter, starts, space = Emitter(target), [], Space(target, runs_on=schedule == "best")
    for index, layer in enumerate(layers):
        emitter.layer = index
        starts.append(len(emitter.instructions))
        emit_layer(layer, tile(layer, target), dram, emitter, space)
    emitter.emit("END")
    order = list(range(len(emitter.instructions)))
    if schedule == "best":
        order = order_loads(emitter.instructions, target, dram.sizes)
    drains = starts if schedule == "vendor" else ()
    instructions = synchronise([emitter.instructions[k] for k in order], target, dram.sizes, drains)
    owners = [emitter.layers[k] for k in order]
    infos = [LayerInfo(layer.name, layer.op, layer.origin, layer.nodes, layer.macs) for layer in layers]
    return Segment("dpu", graph, infos, dram, instructions, owners)


def _fits(layer: Layer, target: Target) -> bool:
    try:
        tile(layer, target)
    except ToolError:
        return False
    return True
