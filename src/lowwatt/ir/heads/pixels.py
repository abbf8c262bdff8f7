"""What a network does to pixels before its first layer, put into the graph, so that it takes pixels of 0…255 in BGR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph, Node
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a network takes: pixel * scale + shift, one number or one a channel in the network's own order."""

    what: str
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    rgb: bool = False


_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by torchvision, for pixels of 0…1

_TORCH = (
    tuple(1 / (255 * d) for d in _DEVIATION),
    tuple(-m / d for m, d in zip(_MEAN, _DEVIATION, strict=True)),
)
CONVENTIONS = {
    "raw": Pixels("0…255 in BGR"),
    "unit": Pixels("0…1 in RGB", (1 / 255,), rgb=True),
    "unit-bgr": Pixels("0…1 in BGR", (1 / 255,)),
    "tf": Pixels("-1…1 in RGB", (1 / 127.5,), (-1.0,), rgb=True),
    "torch": Pixels("less ImageNet's mean, by its deviation, in RGB", *_TORCH, rgb=True),
    "caffe": Pixels("less ImageNet's mean, in BGR", (1.0,), (-103.939, -116.779, -123.68)),
}
"""What published networks take; tf, torch and caffe are the modes of Keras' preprocess_input."""


def convention(name: str) -> Pixels:
    """One of CONVENTIONS; ToolError for another name."""
    if name not in CONVENTIONS:
        raise ToolError(f"no way to give pixels is called {name!r}", hint=did_you_mean(name, CONVENTIONS))
    return CONVENTIONS[name]


def take_pixels(graph: Graph, pixels: Pixels) -> None:
    """Let the graph take 0…255 in BGR order, exactly.

    A factor and another order of channels go into the first convolutions. A shift cannot, since the zeros that they pad
    with stand for pixels of -shift / scale: then, and where something else reads the input, a 1x1 convolution is put in
    front.
    """
    name = graph.inputs[0]
    matrix = _matrix(pixels, graph.tensor(name).shape[3])
    if np.array_equal(matrix, np.eye(len(matrix))) and not any(pixels.shift):
        return
    readers = graph.consumers()[name]
    if any(pixels.shift) or not all(_folds(graph, node) for node in readers):
        _put_in_front(graph, readers, matrix, pixels.shift)
        return
    for node in readers:
        weights = np.asarray(graph.tensor(node.inputs[1]).data, np.float64)
        graph.set_constant(node.inputs[1], weights @ matrix)


def _matrix(pixels: Pixels, channels: int) -> Array:
    """(network's channel, ours): one factor a row."""
    if len(pixels.scale) not in (1, channels) or len(pixels.shift) not in (1, channels):
        raise ToolError("the network's channels do not fit its pixels", why=f"it takes {channels}")
    order = np.eye(channels)[::-1] if pixels.rgb else np.eye(channels)
    matrix: Array = order * np.broadcast_to(pixels.scale, channels)[:, None]
    return matrix


def _put_in_front(graph: Graph, readers: list[Node], matrix: Array, shift: tuple[float, ...]) -> None:
    name = graph.inputs[0]
    weights = graph.add_constant(f"{name}.scale", matrix.astype(np.float32)[:, None, None, :])
    bias = graph.add_constant(f"{name}.shift", np.resize(np.array(shift, np.float32), len(matrix)))
    made = graph.insert(readers[0], "conv2d", [name, weights, bias], f"{name}.pixels")
    for node in readers:
        node.redirect(name, made)


def _folds(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution over all channels with weights of its own."""
    if node.op != "conv2d" or node.attrs["group"] != 1 or graph.tensor(node.inputs[1]).data is None:
        return False
    return len(graph.consumers()[node.inputs[1]]) == 1
