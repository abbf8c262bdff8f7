"""What a network does to pixels before its first layer, put into the graph, so that it takes pixels of 0…255 in BGR."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph, Node


def scale_input(graph: Graph, scale: float) -> None:
    """Let the graph take its input unscaled: its first convolutions get the factor, which is exact with their padding.

    Where something else reads the input, a 1x1 depthwise convolution multiplies it.
    """
    name = graph.inputs[0]
    readers = graph.consumers()[name]
    if all(_folds(graph, node) for node in readers):
        for node in readers:
            weights = graph.tensor(node.inputs[1])
            assert weights.data is not None
            weights.data = (weights.data.astype(np.float64) * scale).astype(np.float32)
    else:
        affine_input(graph, scale, 0.0)


def affine_input(graph: Graph, scale: float, shift: float) -> None:
    """Put scale * x + shift in front of everything that reads the input, as a 1x1 depthwise convolution.

    A layer of its own, since the zeros that convolutions pad with stand for pixels of -shift / scale.
    """
    name = graph.inputs[0]
    first, *_ = readers = graph.consumers()[name]
    channels = graph.tensor(name).shape[3]
    weights = graph.add_constant(f"{name}.scale", np.full((1, 1, 1, channels), scale, np.float32))
    bias = graph.add_constant(f"{name}.shift", np.full(channels, shift, np.float32))
    made = graph.insert(first, "depthwise_conv2d", [name, weights, bias], f"{name}.scaled")
    for node in readers:
        node.inputs = [made if i == name else i for i in node.inputs]


def _folds(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer with weights of its own, which nobody else reads."""
    if node.op not in ("conv2d", "depthwise_conv2d") or graph.tensor(node.inputs[1]).data is None:
        return False
    return len(graph.consumers()[node.inputs[1]]) == 1 and graph.inputs[0] not in node.inputs[1:]
