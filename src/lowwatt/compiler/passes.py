"""The compiler: a visible list of passes over a Plan, each of which fills in one part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from lowwatt.compiler.program import LayerCost, Program
from lowwatt.compiler.rules import Verdict, check
from lowwatt.compiler.superlayers import Superlayer, free_nodes, macs_of, superlayers
from lowwatt.compiler.timing import Timing, time_superlayer
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target, load_target

_NS_PER_MS = 1e6


@dataclass(slots=True)
class Plan:
    """What the passes know so far of a graph on a machine."""

    graph: Graph
    target: Target
    verdicts: list[Verdict] = field(default_factory=list)
    where: dict[str, str] = field(default_factory=dict)
    superlayers: list[Superlayer] = field(default_factory=list)
    layers: list[LayerCost] = field(default_factory=list)
    free: list[str] = field(default_factory=list)
    host_nodes_ms: float = 0.0
    host_ms: float = 0.0


def check_operators(plan: Plan) -> None:
    """Ask the operator rules where each node runs."""
    plan.verdicts = check(plan.graph, plan.target)
    plan.where = {verdict.node: verdict.where for verdict in plan.verdicts}


def merge_superlayers(plan: Plan) -> None:
    """Join what the machine does in one go."""
    plan.superlayers = superlayers(plan.graph, plan.target, plan.where)
    plan.free = free_nodes(plan.graph, plan.superlayers, plan.where)


def time_layers(plan: Plan) -> None:
    """Tile each superlayer, run its engines, and put host nodes between, in order of execution."""
    last = {layer.name: layer for layer in plan.superlayers}
    for node in plan.graph.nodes:
        if node.name in last:
            plan.layers.append(_accelerator_cost(last[node.name], plan.target))
        elif plan.where[node.name] == "host":
            plan.layers.append(_host_cost(node, plan.graph, plan.target))


def add_host_term(plan: Plan) -> None:
    """Reading the outputs on the board's CPU: so much an element and so much a frame (docs/dpu.md 5.2)."""
    host = plan.target.host
    elements = sum(prod(plan.graph.tensor(name).shape[1:]) for name in plan.graph.outputs)
    plan.host_nodes_ms = sum((layer.ms for layer in plan.layers if layer.where == "host"), 0.0)
    plan.host_ms = host.element_ns * elements / _NS_PER_MS + host.frame_ms + plan.host_nodes_ms


Pass = Callable[[Plan], None]
PASSES: tuple[Pass, ...] = (check_operators, merge_superlayers, time_layers, add_host_term)
"""What `compile` does, in order."""


def compile(graph: Graph | str | Path, target: Target | str | Path = "ultra96v2-lpcv") -> Program:
    """Compile a graph, float or quantized, or a `.lwg` file, for a machine (a Target, its name, or a YAML file).

    Times are modelled for one image (docs/dpu.md 5.1 and 5.2); a float graph is timed as if it were quantized.
    Raises ToolError for an unknown machine, an unreadable file, or a layer that cannot be tiled.

    >>> g = Graph("tiny")
    >>> x = g.add_input("x", (1, 8, 8, 12))
    >>> g.outputs = [g.add("max_pool", [x], "y", kernel=(2, 2), stride=(2, 2))]
    >>> [layer.where for layer in compile(g).layers]
    ['dpu']
    """
    plan = Plan(_graph(graph), target if isinstance(target, Target) else load_target(target))
    if not plan.graph.nodes:
        raise ToolError("there is nothing to compile", where=plan.graph.name, why="the graph has no operator")
    for step in PASSES:
        step(plan)
    return Program(plan.graph, plan.target, plan.layers, plan.verdicts, plan.free, plan.host_ms, plan.host_nodes_ms)


def _graph(source: Graph | str | Path) -> Graph:
    if isinstance(source, Graph):
        return source
    from lowwatt.ir import store

    return store.load(source)


def _accelerator_cost(layer: Superlayer, target: Target) -> LayerCost:
    timing = time_superlayer(layer, target)
    return LayerCost(
        layer.name,
        layer.op,
        layer.nodes[0].origin,
        "dpu",
        tuple(node.name for node in layer.nodes),
        layer.macs,
        {engine: round(ns / target.cycle_ns, 3) for engine, ns in timing.busy.items()},
        timing.load_bytes,
        timing.save_bytes,
        timing.ns / _NS_PER_MS,
        layer.macs / (target.array.macs_per_cycle * timing.ns / target.cycle_ns),
        _bound_by(timing),
    )


def _bound_by(timing: Timing) -> str:
    return max(timing.busy, key=lambda engine: timing.busy[engine])


def _host_cost(node: Node, graph: Graph, target: Target) -> LayerCost:
    """An estimate: the published host cost an output element, and the assumed cost a multiply-accumulate."""
    macs, elements = macs_of(node, graph), prod(graph.tensor(node.name).shape[1:])
    ns = 0.0 if node.op in ("reshape", "identity") else target.host.element_ns * elements + target.host.mac_ns * macs
    return LayerCost(
        node.name, node.op, node.origin, "host", (node.name,), macs, {}, 0, 0, ns / _NS_PER_MS, 0.0, "host (estimate)"
    )
