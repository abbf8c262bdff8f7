"""Cross-layer equalisation: channels of one tensor get like ranges, by factors that the layers around it absorb.

Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", arXiv 1906.04721, 4.1. There
it is for pairs of layers; here a tensor's channels may pass concats, residual sums, pools and resizes on their way, and
all layers that make or read a channel take part.

Where weights have a scale for each channel, it is the activations whose channels differ too much for one scale, and the
factors balance them against the weights that read them (SmoothQuant, arXiv 2211.10438). A curve such as SiLU lets no
factor through; where it runs in float anyway, factors go in and out through a product on either side of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.plan import WEIGHTED

Floats = NDArray[np.float64]
Channels = NDArray[np.int64]

ROUNDS = 20
LARGEST_FACTOR = 8.0
"""Bound of a channel's factor in one round: beyond it, activations gain outliers faster than weights lose them."""

BALANCED = 8.0
"""Range that each channel in front of a curve is brought to."""

FLAT = 6.0
"""Below minus this, SiLU and its like are flat: nothing there needs to be told apart."""

HOMOGENEOUS = ("none", "relu", "leaky_relu")
"""Activations that commute with a positive factor."""

_PASSING = ("max_pool", "avg_pool", "resize", "identity", "relu", "leaky_relu", "pad")
"""Operators that keep each channel apart and commute with a positive factor of it."""

Ranges = Mapping[str, tuple[Floats, Floats]]
"""Lowest and highest value of each channel of each activation."""


def equalize(graph: Graph) -> Graph:
    """Copy of a prepared float graph with the same function and evener weights, for weights that share one scale."""
    result = graph.copy()
    channels = ChannelIds(result)
    for _ in range(ROUNDS):
        factors = channels.factors()
        channels.scale(factors)
        if np.abs(np.log(factors)).max(initial=0) < 1e-3:
            break
    return result


@dataclass(slots=True)
class Layer:
    """A layer with weights: ids of its input and output channels; weights in float64 while factors are found."""

    node: Node
    inputs: Channels
    outputs: Channels
    weights: Floats
    bias: Floats | None

    def ranges(self, outward: bool) -> Floats:
        """Greatest |weight| of each output or input channel."""
        channel = self.weights.ndim - 1 if self.node.op == "depthwise_conv2d" or not outward else 0
        rows: Floats = np.moveaxis(np.abs(self.weights), channel, 0).reshape(self.weights.shape[channel], -1)
        greatest: Floats = rows.max(1)
        return greatest

    def scale(self, factors: Floats) -> None:
        """Divide what comes in by its factors, multiply what goes out."""
        into, out = factors[self.inputs], factors[self.outputs]
        if self.node.op == "depthwise_conv2d":
            self.weights = self.weights * (out / into)
        else:
            shape = (-1, *[1] * (self.weights.ndim - 1))
            self.weights = self.weights / into * out.reshape(shape)
        if self.bias is not None:
            self.bias = self.bias * out


@dataclass(slots=True)
class ChannelIds:
    """Ids of all tensors' channels: channels of one id have one factor. Fixed ids keep factor 1.

    `curves` are nodes on either side of which channels are free.
    """

    graph: Graph
    curves: Collection[str] = ()
    ids: dict[str, Channels] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in self.graph.inputs:
            self._fix(self._fresh(name))
        for node in self.graph.nodes:
            self._visit(node)
        for name in self.graph.outputs:
            self._fix(self.ids[name])
        roots = np.array([self._root(i) for i in range(len(self.parent))], np.int64)
        self.fixed = {self._root(i) for i in self.fixed}
        self.ids = {name: roots[ids] for name, ids in self.ids.items()}
        for layer in self.layers:
            layer.inputs, layer.outputs = roots[layer.inputs], roots[layer.outputs]

    def factors(self) -> Floats:
        """sqrt(range of the readers / range of the makers) of each channel, as the outgoing side is multiplied."""
        made, read = np.zeros(len(self.parent)), np.zeros(len(self.parent))
        for layer in self.layers:
            np.maximum.at(made, layer.outputs, layer.ranges(outward=True))
            np.maximum.at(read, layer.inputs, layer.ranges(outward=False))
        free = (made > 0) & (read > 0)
        free[list(self.fixed)] = False
        factors = np.ones(len(self.parent))
        factors[free] = np.sqrt(read[free] / made[free])
        return np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR)

    def scale(self, factors: Floats) -> None:
        """Apply factors to all layers, and store the weights."""
        for layer in self.layers:
            layer.scale(factors)
            self.graph.set_constant(layer.node.inputs[1], layer.weights)
            if layer.bias is not None:
                self.graph.set_constant(layer.node.inputs[2], layer.bias)

    # -- ids ------------------------------------------------------------------------------------------------

    def _visit(self, node: Node) -> None:
        sources = [self._of(name) for name in node.inputs]
        if node.op in WEIGHTED and self._is_layer(node):
            self._layer(node, sources[0])
        elif node.op == "concat" and node.attrs["axis"] in (3, -1) and len(self._shape(node)) == 4:
            self.ids[node.name] = np.concatenate(sources)
        elif node.op == "add" and self._is_plain_sum(node):
            for other in sources[1:]:
                self._tie(sources[0], other)
            self.ids[node.name] = sources[0]
        elif node.name in self.curves:
            self._fresh(node.name)
        elif node.op in _PASSING and len(sources) == 1 and node.attrs.get("value", 0) == 0:
            self.ids[node.name] = sources[0]
        else:
            for ids in sources:
                self._fix(ids)
            self._fix(self._fresh(node.name))

    def _layer(self, node: Node, source: Channels) -> None:
        if node.op == "depthwise_conv2d" and self.graph.tensor(node.inputs[1]).shape[0] > 1:
            self._fix(source)
            self._fix(self._fresh(node.name))
            return
        if node.attrs.get("group", 1) > 1:
            self._fix(source)
        outputs = self._fresh(node.name)
        if node.attrs["activation"] not in HOMOGENEOUS:
            self._fix(outputs)
        data = [np.asarray(self.graph.tensor(name).data, np.float64) for name in node.inputs[1:]]
        grouped = node.attrs.get("group", 1) > 1
        inputs = source[: data[0].shape[-1]] if grouped else source  # fixed: any ids of factor 1 will do
        self.layers.append(Layer(node, inputs, outputs, data[0], data[1] if len(data) > 1 else None))

    def _is_layer(self, node: Node) -> bool:
        """Constant weights that no other layer shares, and as many input channels as the map has."""
        names = node.inputs[1:]
        constant = all(self.graph.tensor(name).is_constant for name in names)
        return constant and all(sum(name in n.inputs for n in self.graph.nodes) == 1 for name in names)

    def _is_plain_sum(self, node: Node) -> bool:
        same = all(self.graph.tensor(name).shape == self._shape(node) for name in node.inputs)
        return same and node.attrs["activation"] in HOMOGENEOUS

    def _shape(self, node: Node) -> tuple[int, ...]:
        return self.graph.tensor(node.name).shape

    def _of(self, name: str) -> Channels:
        """Ids of a tensor's last axis; constants have fixed ones."""
        if name not in self.ids:
            self._fix(self._fresh(name))
        return self.ids[name]

    def _fresh(self, name: str) -> Channels:
        shape = self.graph.tensor(name).shape
        first, count = len(self.parent), shape[-1] if shape else 1
        self.parent.extend(range(first, first + count))
        self.ids[name] = np.arange(first, first + count)
        return self.ids[name]

    def _fix(self, ids: Channels) -> None:
        self.fixed.update(map(int, ids))

    def _tie(self, left: Channels, right: Channels) -> None:
        for a, b in zip(left, right, strict=True):
            self.parent[self._root(int(a))] = self._root(int(b))

    def _root(self, index: int) -> int:
        while self.parent[index] != index:
            index = self.parent[index]
        return index
