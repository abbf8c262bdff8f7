"""What each layer costs: its share of the program's time, the engines' cycles, traffic, how well it uses the array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.clock import Times, Work, run, work_of
from lowwatt.compiler.isa import ENGINES
from lowwatt.compiler.segment import LayerInfo, Segment
from lowwatt.compiler.subject import macs_of
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

ARRAY_OPERATORS = ("conv2d", "transposed_conv2d", "linear")
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer on the accelerator, or one node on the host.

    `cycles`: clock cycles that each engine takes (load, conv, misc, save; empty on the host), what an instruction costs
    beside its work included. `ms`: by how much the layer makes the program longer: by what it ends after all layers
    before it. `utilisation`: share of the array's peak over that time (above 1 where the layer overlaps with others),
    `array_use` over the cycles in which the array multiplies; both count what the network asks of the array, not zeros
    that a kernel was filled up with, nor what a depthwise convolution does on MISC. `bound_by`: the engine that works
    longest, or "host (estimate)". `first`, `last`: the span of its instructions in its segment, half-open; others may
    stand between them. `start_ms`, `end_ms`: when its first instruction begins and its last one ends, in its segment.
    `ms` on the host is an estimate, not part of any published measurement.
    """

    name: str
    op: str
    origin: str
    where: str
    nodes: tuple[str, ...]
    macs: int
    cycles: Mapping[str, float]
    load_bytes: int
    save_bytes: int
    ms: float
    utilisation: float
    bound_by: str
    array_use: float = 0.0
    first: int = 0
    last: int = 0
    start_ms: float = 0.0
    end_ms: float = 0.0


def accelerator_costs(segment: Segment, target: Target) -> list[LayerCost]:
    """A row for each layer of an accelerator's segment; their `ms` add up to the segment's time."""
    work = work_of(segment.instructions)
    times = run(work, target.costs, target.cycle_ns)
    return list(_rows(segment, target, work, times))


def _rows(segment: Segment, target: Target, work: Work, times: Times) -> Iterator[LayerCost]:
    front = 0.0
    for layer, part in zip(segment.layers, segment.positions(), strict=True):
        end = float(times.end[part].max(initial=front))
        yield _row(layer, part, target, work, times, end - front, _macs(layer, segment.graph))
        front = end


def _macs(layer: LayerInfo, graph: Graph) -> tuple[int, int]:
    """Multiply-accumulates of the network's nodes, and those of them that the array does where it works: a depthwise
    convolution behind another one is MISC's.
    """
    nodes = [node for node in graph.nodes if node.name in layer.nodes]
    macs = sum(macs_of(node, graph) for node in nodes)
    if not any(node.op in ARRAY_OPERATORS for node in nodes):
        return macs, macs
    return macs, macs - sum(macs_of(node, graph) for node in nodes if node.op == "depthwise_conv2d")


def _row(
    layer: LayerInfo, part: NDArray[np.intp], target: Target, work: Work, times: Times, ns: float, macs: tuple[int, int]
) -> LayerCost:
    engines, duration = work.engines[part], times.duration[part]
    names = [name.lower() for name in ENGINES]
    cycles = {name: round(float(duration[engines == k].sum()) / target.cycle_ns, 3) for k, name in enumerate(names)}
    worked = float(work.cycles[part][engines == ENGINES.index("CONV")].sum())
    peak = target.array.macs_per_cycle
    return LayerCost(
        layer.name,
        layer.op,
        layer.origin,
        "dpu",
        layer.nodes,
        macs[0],
        {name: cycles[name] for name in ("load", "conv", "misc", "save")},
        int(work.bytes[part][engines == ENGINES.index("LOAD")].sum()),
        int(work.bytes[part][engines == ENGINES.index("SAVE")].sum()),
        ns / _NS_PER_MS,
        macs[1] / (peak * ns / target.cycle_ns) if ns and worked else 0.0,
        max(cycles, key=lambda name: cycles[name]),
        macs[1] / (peak * worked) if worked else 0.0,
        int(part[0]) if len(part) else 0,
        int(part[-1]) + 1 if len(part) else 0,
        float(times.start[part].min()) / _NS_PER_MS if len(part) else 0.0,
        float(times.end[part].max(initial=0.0)) / _NS_PER_MS,
    )


def host_cost(node: Node, graph: Graph, target: Target) -> LayerCost:
    """An estimate: the published host cost an output element, and the assumed cost a multiply-accumulate."""
    macs, elements = macs_of(node, graph), prod(graph.tensor(node.name).shape[1:])
    ns = 0.0 if node.op in ("reshape", "identity") else target.host.element_ns * elements + target.host.mac_ns * macs
    return LayerCost(
        node.name, node.op, node.origin, "host", (node.name,), macs, {}, 0, 0, ns / _NS_PER_MS, 0.0, "host (estimate)"
    )
