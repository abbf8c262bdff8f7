"""The compiler: a visible list of passes over a Plan, each of which fills in one part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from lowwatt.compiler.costs import LayerCost, accelerator_costs, host_cost
from lowwatt.compiler.lowering import lower
from lowwatt.compiler.partition import partition
from lowwatt.compiler.program import Program
from lowwatt.compiler.rules import Verdict, check
from lowwatt.compiler.segment import Segment
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target, load_target

_NS_PER_MS = 1e6


@dataclass(slots=True)
class Plan:
    """What the passes know so far of a graph on a machine."""

    graph: Graph
    target: Target
    schedule: str = "vendor"
    verdicts: list[Verdict] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    layers: list[LayerCost] = field(default_factory=list)
    free: list[str] = field(default_factory=list)
    host_nodes_ms: float = 0.0
    host_ms: float = 0.0


def check_operators(plan: Plan) -> None:
    """Ask the operator rules where each node runs."""
    plan.verdicts = check(plan.graph, plan.target)


def cut_into_segments(plan: Plan) -> None:
    """Cut the graph where the side changes, as rarely as can be."""
    plan.segments = [Segment(part.side, part.graph) for part in partition(plan.graph, plan.verdicts)]


def lower_segments(plan: Plan) -> None:
    """Give each segment of the accelerator its layers, memory map and instructions."""
    plan.segments = [
        lower(segment.graph, plan.target, plan.schedule) if segment.side == "dpu" else segment
        for segment in plan.segments
    ]


def time_layers(plan: Plan) -> None:
    """Run the words on the clock, and put the host's nodes between, in order of execution."""
    for segment in plan.segments:
        if segment.side == "host":
            plan.layers.extend(host_cost(node, segment.graph, plan.target) for node in segment.graph.nodes)
        else:
            plan.layers.extend(accelerator_costs(segment, plan.target))
    busy = {name for layer in plan.layers for name in layer.nodes}
    plan.free = [node.name for node in plan.graph.nodes if node.name not in busy]


def add_host_term(plan: Plan) -> None:
    """Reading the outputs on the board's CPU: so much an element and so much a frame (docs/dpu.md 5.2)."""
    host = plan.target.host
    elements = sum(prod(plan.graph.tensor(name).shape[1:]) for name in plan.graph.outputs)
    plan.host_nodes_ms = sum((layer.ms for layer in plan.layers if layer.where == "host"), 0.0)
    plan.host_ms = host.element_ns * elements / _NS_PER_MS + host.frame_ms + plan.host_nodes_ms


Pass = Callable[[Plan], None]
PASSES: tuple[Pass, ...] = (check_operators, cut_into_segments, lower_segments, time_layers, add_host_term)
"""What `compile` does, in order."""


def compile(
    graph: Graph | str | Path, target: Target | str | Path = "ultra96v2-lpcv", schedule: str = "vendor"
) -> Program:
    """Compile a graph, float or quantized, or a `.lwg` file, for a machine (a Target, its name, or a YAML file).

    Times are those of the emitted instructions for one image (docs/dpu.md 5.1 and 5.2); a float graph is timed as if it
    were quantized. `schedule`: see `lowwatt.compiler.lowering.lower`.
    Raises ToolError for an unknown machine, an unreadable file, or a layer that cannot be tiled.

    >>> g = Graph("tiny")
    >>> x = g.add_input("x", (1, 8, 8, 12))
    >>> g.outputs = [g.add("max_pool", [x], "y", kernel=(2, 2), stride=(2, 2))]
    >>> [layer.where for layer in compile(g).layers]
    ['dpu']
    """
    plan = Plan(_graph(graph), target if isinstance(target, Target) else load_target(target), schedule)
    if not plan.graph.nodes:
        raise ToolError("there is nothing to compile", where=plan.graph.name, why="the graph has no operator")
    for step in PASSES:
        step(plan)
    return Program(
        plan.graph,
        plan.target,
        plan.layers,
        plan.verdicts,
        plan.free,
        plan.host_ms,
        plan.host_nodes_ms,
        segments=plan.segments,
        schedule=schedule,
    )


def _graph(source: Graph | str | Path) -> Graph:
    if isinstance(source, Graph):
        return source
    from lowwatt.ir import store

    return store.load(source)
