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

Rule = Callable[[Node, Sequence[Array]], Array]


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
        values = np.ascontiguousarray(evaluate(node, data), np.float32)
        graph.nodes.remove(node)
        graph.tensors[node.name] = Tensor(node.name, graph.tensor(node.name).shape, "float32", None, values)
        changed = True
    return changed


def evaluate(node: Node, data: Sequence[Array]) -> Array:
    """Value of an operator that has a rule here."""
    return _RULES[node.op](node, data)


def _pad(node: Node, data: Sequence[Array]) -> Array:
    widths = pad_widths(node, data[0].shape)
    if node.attrs["mode"] == "symmetric":
        return np.pad(data[0], widths, mode="symmetric")
    return np.pad(data[0], widths, constant_values=node.attrs["value"])


def _of_all(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda node, data: reduce(function, data)


def _of_one(function: Callable[[Any], Any]) -> Rule:
    return lambda node, data: function(data[0])


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
    "concat": lambda node, data: np.concatenate(data, node.attrs["axis"]),
    "slice": lambda node, data: data[0][slices(node, data[0].shape)],
    "pad": _pad,
    "reshape": lambda node, data: data[0].reshape(node.attrs["shape"]),
    "transpose": lambda node, data: data[0].transpose(node.attrs["order"]),
}
