"""Passes that recognise an operator that a source spells out in several."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lowwatt.ir.graph import Graph, Node


def fuse_silu(graph: Graph) -> bool:
    """x * sigmoid(x) is silu, x * hard_sigmoid(x) is hard_swish."""
    producers, changed = graph.producers(), False
    for node in [n for n in graph.nodes if n.op == "mul" and _is_plain_pair(n)]:
        for x, gate in (node.inputs, node.inputs[::-1]):
            made = producers.get(gate)
            fused = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}.get(made.op if made else "")
            if made is not None and fused and made.inputs == [x]:
                node.op, node.inputs, node.attrs = fused, [x], {}
                changed = True
                break
    graph.prune()
    return changed


def fuse_hard(graph: Graph) -> bool:
    """relu6(x + 3) / 6 is hard_sigmoid, x * relu6(x + 3) / 6 is hard_swish."""
    producers, changed = graph.producers(), False
    for node in graph.nodes:
        inner = producers.get(_sixth_of(graph, node))
        if inner is None:
            continue
        x, fused = _gated(graph, producers, inner.name), "hard_sigmoid"
        if inner.op == "mul" and _is_plain_pair(inner):
            first, second = inner.inputs
            swish = _gated(graph, producers, second) == first or _gated(graph, producers, first) == second
            x = (first if _gated(graph, producers, second) == first else second) if swish else ""
            fused = "hard_swish"
        if x:
            node.op, node.inputs, node.attrs = fused, [x], {}
            changed = True
    graph.prune()
    return changed


def _sixth_of(graph: Graph, node: Node) -> str:
    """What the node divides by 6; empty where it does not."""
    if node.op == "div" and _number(graph, node.inputs[1]) == 6:
        return node.inputs[0]
    if node.op == "mul" and _is_plain_pair(node):
        for value, factor in (node.inputs, node.inputs[::-1]):
            if math.isclose(_number(graph, factor), 1 / 6, rel_tol=1e-6):
                return value
    return ""


def _gated(graph: Graph, producers: Mapping[str, Node], name: str) -> str:
    """x where the tensor is relu6(x + 3); else empty."""
    clip = producers.get(name)
    line = producers.get(clip.inputs[0]) if clip is not None and clip.op == "relu6" else None
    if line is None or line.op != "add" or not _is_plain_pair(line):
        return ""
    first, second = line.inputs
    return first if _number(graph, second) == 3 else second if _number(graph, first) == 3 else ""


def _is_plain_pair(node: Node) -> bool:
    return len(node.inputs) == 2 and node.attrs["activation"] == "none"


def _number(graph: Graph, name: str) -> float:
    """Value of a constant of one element; NaN for anything else."""
    data = graph.tensor(name).data
    return float(data.reshape(-1)[0]) if data is not None and data.size == 1 else math.nan
