"""Tensors that cross between accelerator and host, and the side on which a node that only moves values makes fewest.

A tensor crosses where its maker and one of its readers stand on different sides. The graph's inputs come from the
host and its outputs go to it. Which side each free node takes is a minimum cut: sides are source and sink, each tensor
is one edge that is cut once however many readers it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from lowwatt.ir.graph import Graph

_Vertex = str | tuple[str, str]
_Network = dict[_Vertex, dict[_Vertex, int]]

_DPU, _HOST = ("side", "dpu"), ("side", "host")


def crossings(graph: Graph, where: Mapping[str, str]) -> list[str]:
    """Tensors that cross, in order; `where` gives each node's side, "dpu" or "host".

    >>> g = Graph()
    >>> x = g.add_input("x", (1, 4))
    >>> g.outputs = [g.add("softmax", [g.add("relu", [x], "r")], "s", axis=1)]
    >>> crossings(g, {"r": "dpu", "s": "host"})
    ['x', 'r']
    """
    return [name for name, pins in _pins(graph) if len({where.get(pin, "host") for pin in pins}) == 2]


def settle(graph: Graph, where: Mapping[str, str], free: Collection[str]) -> dict[str, str]:
    """`where` with each node of `free` on the side that makes the fewest crossings; no node moves without need."""
    if not free:
        return dict(where)
    on_dpu = _source_side(_network(graph, where, free))
    return {name: ("dpu" if name in on_dpu else "host") if name in free else side for name, side in where.items()}


def _pins(graph: Graph) -> Iterator[tuple[str, set[str]]]:
    """Each tensor that is no constant with what it touches: nodes, and "" for the world outside, the host's."""
    consumers, producers = graph.consumers(), graph.producers()
    for name in (*graph.inputs, *producers):
        pins = {node.name for node in consumers[name]} | {name if name in producers else ""}
        yield name, pins | ({""} if name in graph.outputs else set())


def _network(graph: Graph, where: Mapping[str, str], free: Collection[str]) -> _Network:
    """Flow network whose minimum cut is the best choice: vertices are the two sides, free nodes and their tensors."""
    network: _Network = {_DPU: {}, _HOST: {}}
    for name in free:
        _connect(network, _DPU, name, 1) if where[name] == "dpu" else _connect(network, name, _HOST, 1)
    for name, pins in _pins(graph):
        if not pins.isdisjoint(free):
            ends = {pin if pin in free else _DPU if where.get(pin, "host") == "dpu" else _HOST for pin in pins}
            _add_tensor(network, name, ends, len(free) + 1)
    return network


def _add_tensor(network: _Network, name: str, ends: set[_Vertex], cost: int) -> None:
    """An edge of that cost, which is cut where some ends are on one side and some on the other."""
    first, last = ("in", name), ("out", name)
    never = 2 * cost  # dearer than the tensor itself
    _connect(network, first, last, cost)
    for end in ends:
        _connect(network, end, first, never)
        _connect(network, last, end, never)


def _connect(network: _Network, tail: _Vertex, head: _Vertex, capacity: int) -> None:
    network.setdefault(tail, {})[head] = capacity
    network.setdefault(head, {}).setdefault(tail, 0)


def _source_side(network: _Network) -> set[_Vertex]:
    """Vertices on the accelerator's side of a minimum cut (augmenting shortest paths); uses the network up."""
    while _HOST in (before := _reach(network)):
        path: list[_Vertex] = [_HOST]
        while path[-1] != _DPU:
            path.append(before[path[-1]])
        steps = list(zip(path[1:], path, strict=False))
        flow = min(network[tail][head] for tail, head in steps)
        for tail, head in steps:
            network[tail][head] -= flow
            network[head][tail] += flow
    return set(before)


def _reach(network: _Network) -> dict[_Vertex, _Vertex]:
    """Vertices that can be reached from the accelerator's, each with the one before it."""
    before: dict[_Vertex, _Vertex] = {_DPU: _DPU}
    queue: deque[_Vertex] = deque([_DPU])
    while queue:
        tail = queue.popleft()
        for head, capacity in network[tail].items():
            if capacity > 0 and head not in before:
                before[head] = tail
                queue.append(head)
    return before
