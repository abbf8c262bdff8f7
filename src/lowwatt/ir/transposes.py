"""Passes that make transposes meet and cancel; they come from sources that think in another layout."""

from __future__ import annotations

from lowwatt.ir.graph import Graph, Node

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
