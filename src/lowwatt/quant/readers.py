"""Targets whose layers round what they read for themselves, so that others read the same tensor unrounded."""

from __future__ import annotations

from lowwatt.ir.graph import Graph
from lowwatt.quant.plan import float_nodes
from lowwatt.quant.scheme import Scheme


def part_readers(graph: Graph, scheme: Scheme) -> None:
    """Give the layers on integers a copy of what float operators read too, or what leaves the graph; in place."""
    floating = float_nodes(graph, scheme)
    readers = graph.consumers()
    for name in [*graph.inputs, *(node.name for node in graph.nodes)]:
        integer = [node for node in readers[name] if node.name not in floating and node.inputs[0] == name]
        if not integer or (len(integer) == len(readers[name]) and name not in graph.outputs):
            continue
        copy = graph.insert(integer[0], "identity", [name], f"{name}.rounded")
        for node in integer:
            node.inputs[0] = copy
