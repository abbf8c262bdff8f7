"""Constant folding: operators whose operands are all constants are computed once, in NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops.layout import pad_widths, slices
from lowwatt.types import Array

Rule = Callable[[dict[str, Any], Sequence[Array]], Array]


def fold_constants(graph: Graph) -> bool:
    """Replace float operators on constants by their value; the constant keeps the node's name."""
    changed = False
    for node in list(graph.nodes):
        operands = [graph.tensor(name).data for name in node.inputs]
        data = [d for d in operands if d is not None]
        if node.op not in _RULES or node.name in graph.outputs or len(data) != len(operands):
            continue
        if node.attrs.get("activation", "none") != "none" or graph.tensor(node.name).quant is not None:
            continue
        values = np.ascontiguousarray(_RULES[node.op](_attrs(graph, node), data), np.float32)
        graph.nodes.remove(node)
        graph.tensors[node.name] = Tensor(node.name, graph.tensor(node.name).shape, "float32", None, values)
        changed = True
    return changed


def _attrs(graph: Graph, node: Node) -> dict[str, Any]:
    shape = graph.tensor(node.inputs[0]).shape
    if node.op == "slice":
        return {"slices": slices(node, shape)}
    return {"widths": pad_widths(node, shape), **node.attrs} if node.op == "pad" else node.attrs


def _pad(attrs: dict[str, Any], data: Sequence[Array]) -> Array:
    if attrs["mode"] == "symmetric":
        return np.pad(data[0], attrs["widths"], mode="symmetric")
    return np.pad(data[0], attrs["widths"], constant_values=attrs["value"])


def _of_all(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda attrs, data: reduce(function, data)


def _of_one(function: Callable[[Any], Any]) -> Rule:
    return lambda attrs, data: function(data[0])


_RULES: dict[str, Rule] = {
    "add": _of_all(operator.add),
    "sub": _of_all(operator.sub),
    "mul": _of_all(operator.mul),
    "div": _of_all(operator.truediv),
    "pow": _of_all(operator.pow),
    "neg": _of_one(operator.neg),
    "exp": _of_one(np.exp),
    "sqrt": _of_one(np.sqrt),
    "identity": _of_one(lambda x: x),
    "concat": lambda attrs, data: np.concatenate(data, attrs["axis"]),
    "slice": lambda attrs, data: data[0][attrs["slices"]],
    "pad": _pad,
    "reshape": lambda attrs, data: data[0].reshape(attrs["shape"]),
    "transpose": lambda attrs, data: data[0].transpose(attrs["order"]),
}
