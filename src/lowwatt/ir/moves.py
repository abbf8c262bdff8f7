"""Passes over operators that only move elements; sources that think in another layout bring many of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.types import Shape

_MOVES = ("transpose", "reshape", "slice")
_GREATEST_MAP = 1 << 22
"""Elements up to which a chain of moves is followed element by element."""

_EACH_ELEMENT = (
    "relu", "relu6", "leaky_relu", "sigmoid", "silu", "tanh", "hard_sigmoid", "hard_swish",
    "exp", "sqrt", "neg", "clip", "softmax",
)  # fmt: skip


def cancel_transposes(graph: Graph) -> bool:
    """Join transposes, and reshapes; a transpose that moves only axes of size 1 is a reshape."""
    changed = False
    for node in graph.nodes:
        before = graph.producers().get(node.inputs[0]) if node.inputs else None
        if node.op == "transpose" and before is not None and before.op == "transpose":
            order = tuple(before.attrs["order"][axis] for axis in node.attrs["order"])
            node.inputs, node.attrs = [before.inputs[0]], {"order": order}
            changed = True
        elif node.op == "transpose" and _moves_only_ones(graph, node):
            node.op, node.attrs = "reshape", {"shape": graph.tensor(node.name).shape}
            changed = True
        elif node.op == "reshape" and before is not None and before.op == "reshape":
            node.inputs = [before.inputs[0]]
            changed = True
    graph.prune()
    return changed


def sink_transposes(graph: Graph) -> bool:
    """Move a transpose behind the operator that alone reads it, where another transpose follows.

    transpose → softmax → transpose becomes softmax → transpose → transpose, and these two can cancel.
    """
    changed = False
    for node in list(graph.nodes):
        before = graph.producers().get(node.inputs[0]) if node.op in _EACH_ELEMENT else None
        if before is not None and before.op == "transpose" and _between(graph, before, node):
            _swap(graph, before, node)
            changed = True
    return changed


def straighten_moves(graph: Graph) -> bool:
    """A chain of transposes, reshapes and slices that amounts to one slice becomes that slice.

    ShuffleNet's channel shuffle is such a chain: every second channel, by way of five dimensions.
    """
    changed = False
    for node in list(graph.nodes):
        chain = _chain_to(graph, node)
        if len(chain) < 2:
            continue
        source = chain[0].inputs[0]
        cut = _as_slice(_elements(graph, chain), graph.tensor(source).shape)
        if cut is not None:
            begin, end, strides = cut
            attrs = {"begin": begin, "end": end, "strides": strides}
            node.op, node.inputs = "slice", [source]
            node.attrs = spec("slice").complete(attrs, where=node.name)
            changed = True
    graph.prune()
    return changed


def _chain_to(graph: Graph, node: Node) -> list[Node]:
    """The moves that lead to `node`, first one first; nothing where a move follows, or the map is too large."""
    readers = [n for n in graph.nodes if node.name in n.inputs]
    if node.op not in _MOVES or (readers and all(n.op in _MOVES for n in readers)):
        return []
    producers, chain = graph.producers(), [node]
    while (before := producers.get(chain[0].inputs[0])) is not None and before.op in _MOVES:
        chain.insert(0, before)
    return chain if math.prod(graph.tensor(chain[0].inputs[0]).shape) <= _GREATEST_MAP else []


def _elements(graph: Graph, chain: list[Node]) -> NDArray[np.int64]:
    """Which element of the chain's source each element of its result is."""
    shape = graph.tensor(chain[0].inputs[0]).shape
    elements = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    for node in chain:
        move = spec(node.op).real
        assert move is not None  # transpose, reshape and slice have one
        elements = move(node, [elements])
    return elements


def _as_slice(elements: NDArray[np.int64], shape: Shape) -> tuple[Shape, Shape, Shape] | None:
    """(begin, end, strides) of the slice that takes just these elements from a map of that shape."""
    if elements.ndim != len(shape):
        return None
    begin = np.unravel_index(int(elements.flat[0]), shape)
    slices = []
    for axis, first in enumerate(begin):
        along = elements[tuple(slice(None) if a == axis else 0 for a in range(elements.ndim))]
        places = np.unravel_index(along, shape)[axis]
        step = int(places[1] - places[0]) if places.size > 1 else 1
        slices.append(slice(int(first), int(places[-1]) + 1, max(step, 1)))
    whole = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if not np.array_equal(whole[tuple(slices)], elements):
        return None
    return tuple(s.start for s in slices), tuple(s.stop for s in slices), tuple(s.step for s in slices)


def _swap(graph: Graph, before: Node, node: Node) -> None:
    """x → before → node → after becomes x → node → before → after."""
    (after,) = graph.consumers()[node.name]
    order = before.attrs["order"]
    if node.op == "softmax":
        node.attrs["axis"] = order[node.attrs["axis"] % len(order)]
    node.inputs, before.inputs, after.inputs = before.inputs, [node.name], [before.name]
    graph.tensor(node.name).shape = graph.tensor(node.inputs[0]).shape
    first, second = graph.nodes.index(before), graph.nodes.index(node)
    graph.nodes[first], graph.nodes[second] = node, before


def _between(graph: Graph, before: Node, node: Node) -> bool:
    """True where `node` alone reads the transpose `before`, and a transpose alone reads `node`."""
    consumers = graph.consumers()
    after = consumers[node.name]
    free = before.name not in graph.outputs and node.name not in graph.outputs
    return free and consumers[before.name] == [node] and len(after) == 1 and after[0].op == "transpose"


def _moves_only_ones(graph: Graph, node: Node) -> bool:
    shape = graph.tensor(node.inputs[0]).shape
    kept = [axis for axis in node.attrs["order"] if shape[axis] != 1]
    return kept == sorted(kept)
