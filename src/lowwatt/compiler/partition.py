"""Cut a graph into parts for the accelerator and the host, as few as can be, and run them one after the other.

Each node gets a level: how often the side changes on the way to it, on the way where it changes most. Nodes of one
level are all on one side and need nothing of a later level, so each level is one part, no two parts wait for each other
in a circle, and no order of execution changes sides less often. A part may hold branches that are not connected: the
accelerator is started once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lowwatt.compiler.rules import Verdict
from lowwatt.compiler.subject import macs_of
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.types import Array

Side = Literal["dpu", "host"]
RunPart = Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]
"""Runs a part's graph on its inputs and gives its outputs, by name."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a graph that runs on one side, a graph of its own.

    Its inputs are the whole graph's inputs and the tensors of earlier parts that it reads, its outputs the tensors that
    later parts read or that the whole graph gives. Names, quantization and origins are those of the whole graph.
    """

    side: Side
    graph: Graph


def partition(graph: Graph, verdicts: Sequence[Verdict]) -> list[Part]:
    """Parts of a graph, float or quantized, in order of execution; sides alternate.

    `verdicts` are those of `lowwatt.compiler.rules.check`, one a node.

    >>> from lowwatt.compiler.rules import check
    >>> from lowwatt.targets import load_target
    >>> g = Graph()
    >>> x = g.add("max_pool", [g.add_input("x", (1, 4, 4, 8))], "a", kernel=(2, 2), stride=(2, 2))
    >>> g.outputs = [g.add("softmax", [x], "b", axis=3)]
    >>> [(p.side, p.graph.inputs, p.graph.outputs) for p in partition(g, check(g, load_target("kv260")))]
    [('dpu', ['x'], ['a']), ('host', ['a'], ['b'])]
    """
    sides: dict[str, Side] = {verdict.node: verdict.where for verdict in verdicts}
    first: tuple[Side, Side] = ("dpu", "host")
    levels = min((_levels(graph, sides, start) for start in first), key=lambda table: max(table.values(), default=0))
    nodes: dict[int, list[Node]] = {}
    for node in graph.nodes:
        nodes.setdefault(levels[node.name], []).append(node)
    return [Part(sides[group[0].name], subgraph(graph, group)) for _, group in sorted(nodes.items())]


def run_parts(
    graph: Graph, parts: Sequence[Part], inputs: Mapping[str, Array], run_dpu: RunPart, run_host: RunPart
) -> dict[str, Array]:
    """Outputs of the whole graph by name: each part runs on its side, in order.

    `inputs` are the whole graph's, as the two runners take them: real values or raw integers.
    """
    values = {tensor.name: tensor.data for tensor in graph.constants() if tensor.data is not None} | dict(inputs)
    for part in parts:
        missing = [name for name in part.graph.inputs if name not in values]
        if missing:
            raise ToolError("an input is missing", where=missing[0])
        run = run_dpu if part.side == "dpu" else run_host
        values.update(run(part.graph, {name: values[name] for name in part.graph.inputs}))
    return {name: values[name] for name in graph.outputs}


def demote(graph: Graph, verdicts: Sequence[Verdict], least_macs: int) -> list[Verdict]:
    """Verdicts with accelerator parts of fewer multiply-accumulates than `least_macs` sent to the host.

    For who finds that two crossings cost more than a small island on the accelerator saves; each such node says so.
    The smallest part goes first, since the parts around it grow together.
    """
    found = list(verdicts)
    while small := [p for p in partition(graph, found) if p.side == "dpu" and _macs(p.graph) < least_macs]:
        smallest = min(small, key=lambda part: _macs(part.graph))
        names = {node.name for node in smallest.graph.nodes}
        reason = f"Its part has {_macs(smallest.graph)} multiply-accumulates, fewer than the {least_macs} asked for"
        found = [replace(v, where="host", reasons=(reason,)) if v.node in names else v for v in found]
    return found


def _levels(graph: Graph, sides: Mapping[str, Side], start: Side) -> dict[str, int]:
    """Level of each node where level 0 is `start`'s."""
    levels: dict[str, int] = {}
    for node in graph.nodes:
        level = 0 if sides[node.name] == start else 1
        for name in node.inputs:
            if name in levels:
                level = max(level, levels[name] + (sides[name] != sides[node.name]))
        levels[node.name] = level
    return levels


def subgraph(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """The nodes as a graph of their own; tensors and constants are shared with the whole graph."""
    inside = {node.name for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    readers = graph.consumers()
    wanted = [n for n in inside if n in graph.outputs or any(r.name not in inside for r in readers[n])]
    order = [node.name for node in nodes]
    return Graph(
        graph.name,
        [name for name in read if name not in inside and not graph.tensor(name).is_constant],
        sorted(wanted, key=order.index),
        [replace(node, inputs=list(node.inputs), attrs=dict(node.attrs)) for node in nodes],
        {name: replace(graph.tensor(name)) for name in (*read, *order)},
    )


def _macs(graph: Graph) -> int:
    return sum(macs_of(node, graph) for node in graph.nodes)
