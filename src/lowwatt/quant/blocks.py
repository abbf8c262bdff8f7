"""Cut a graph into parts that are reconstructed one after the other: layers, or blocks of several layers.

Every node is in exactly one part, and a part reads only of itself and of parts before it. All tensors that cross a
border are inputs or outputs of a part, so that residual sums, concats and several heads need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.plan import WEIGHTED

Mode = Literal["layer", "block"]

REACH = 8
"""Layers that a tensor may skip and still hold a block together; what reaches further is a skip between blocks, as from
a detector's backbone to its neck."""

MOST = 12
"""Layers of one block; larger ones are cut where the fewest tensors cross."""

CHAIN = 3
"""Layers without branches that make one block."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some nodes, in order; the tensors they read of other blocks, and those of theirs that others read."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def layers(self) -> list[Node]:
        """Nodes with weights."""
        return [node for node in self.nodes if node.op in WEIGHTED]

    @property
    def name(self) -> str:
        """First and last layer, or the first node where there are no layers."""
        names = [node.name for node in self.layers] or [self.nodes[0].name]
        return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def cut(graph: Graph, mode: Mode) -> list[Block]:
    """Parts of a graph in the order of execution.

    `layer`: each node with weights and what follows it without weights; a concat of several layers stands alone.
    `block`: regions that one tensor enters and leaves (residual, CSP, one scale's head), plain layers in threes.
    """
    parts = _layers(graph)
    if mode == "block":
        parts = [[node for part in region for node in part] for region in _regions(graph, parts)]
    order = {node.name: number for number, node in enumerate(graph.nodes)}
    return [_closed(graph, sorted(part, key=lambda node: order[node.name])) for part in parts]


def _layers(graph: Graph) -> list[list[Node]]:
    """One part a layer: a node without weights goes where the latest of its operands is made."""
    place: dict[str, int] = {}
    parts: list[list[Node]] = []
    for node in graph.nodes:
        sources = {place[name] for name in node.inputs if name in place}
        opens = node.op in WEIGHTED or (node.op == "concat" and len(sources) > 1)
        if opens or not parts:
            parts.append([])
        place[node.name] = len(parts) - 1 if opens else max(sources, default=0)
        parts[place[node.name]].append(node)
    return parts


def _closed(graph: Graph, nodes: Sequence[Node]) -> Block:
    """A block with its borders."""
    made = {node.name for node in nodes}
    constants = {tensor.name for tensor in graph.constants()}
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    outside = {name for node in graph.nodes if node.name not in made for name in node.inputs}.union(graph.outputs)
    inputs = tuple(name for name in read if name not in made and name not in constants)
    return Block(tuple(nodes), inputs, tuple(node.name for node in nodes if node.name in outside))


class _Crossings:
    """Which tensors cross the border behind each part."""

    def __init__(self, graph: Graph, parts: Sequence[Sequence[Node]]) -> None:
        self.before = [0]
        """Layers in front of each part."""
        for part in parts:
            self.before.append(self.before[-1] + _weights(part))
        place = {node.name: number for number, part in enumerate(parts) for node in part}
        ends: dict[str, int] = {}
        for number, part in enumerate(parts):
            ends.update({name: number for node in part for name in node.inputs})
        spans = [(place.get(name, -1), last) for name, last in ends.items() if name in place or name in graph.inputs]
        near = [(first, last) for first, last in spans if self.before[last] - self.before[max(first, 0)] <= REACH]
        self.counts = [sum(first <= number < last for first, last in near) for number in range(len(parts))]
        """Tensors of a short reach that cross the border behind each part."""


def _regions(graph: Graph, parts: list[list[Node]]) -> list[list[list[Node]]]:
    crossings = _Crossings(graph, parts)
    regions: list[range] = []
    start = 0
    for number in range(len(parts)):
        if crossings.counts[number] <= 1 or number == len(parts) - 1:
            regions += _bounded(range(start, number + 1), crossings)
            start = number + 1
    return [[parts[i] for i in region] for region in _chained(regions, crossings)]


def _bounded(region: range, crossings: _Crossings) -> list[range]:
    """The region, or halves of it and so on, until none has more than `MOST` layers."""
    if _count(region, crossings) <= MOST or len(region) < 2:
        return [region]
    middle = (region.start + region.stop) / 2
    border = min(region[:-1], key=lambda i: (crossings.counts[i], abs(i + 1 - middle)))
    halves = range(region.start, border + 1), range(border + 1, region.stop)
    return [part for half in halves for part in _bounded(half, crossings)]


def _chained(regions: Iterable[range], crossings: _Crossings) -> list[range]:
    """Neighbours of at most one layer each put together, up to `CHAIN` layers; what has no layer joins the next."""
    result: list[range] = []
    plain = False
    for region in regions:
        single = _count(region, crossings) <= 1
        if (result and plain and _count(result[-1], crossings) == 0) or (
            result and plain and single and _count(result[-1], crossings) < CHAIN
        ):
            result[-1] = range(result[-1].start, region.stop)
        else:
            result.append(region)
        plain = single
    return result


def _count(region: range, crossings: _Crossings) -> int:
    return crossings.before[region.stop] - crossings.before[region.start]


def _weights(nodes: Iterable[Node]) -> int:
    return sum(node.op in WEIGHTED for node in nodes)
