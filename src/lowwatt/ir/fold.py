"""Constant folding: operators whose operands are all constants are computed once, in NumPy."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph, Tensor
from lowwatt.ir.ops import spec


def fold_constants(graph: Graph) -> bool:
    """Replace float operators on constants by their value; the constant keeps the node's name."""
    changed = False
    for node in list(graph.nodes):
        rule = spec(node.op).real
        operands = [graph.tensor(name).data for name in node.inputs]
        data = [d for d in operands if d is not None]
        if rule is None or node.name in graph.outputs or len(data) != len(operands):
            continue
        if graph.tensor(node.name).quant is not None:
            continue
        values = np.ascontiguousarray(rule(node, data), np.float32)
        graph.nodes.remove(node)
        graph.tensors[node.name] = Tensor(node.name, graph.tensor(node.name).shape, "float32", None, values)
        changed = True
    return changed
