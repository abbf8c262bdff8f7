"""Equalisation for targets whose weights have a scale for each channel: activations are evened out, curves included.

A network of SiLU and depthwise layers (YOLOX-nano) has channels that differ a hundredfold in one tensor; with one scale
for all, the small ones are rounded away, and the layers behind them amplify what is left. See `lowwatt.quant.equalize`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.equalize import BALANCED, FLAT, LARGEST_FACTOR, ROUNDS, ChannelIds, Floats, Layer, Ranges
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array

CURVES = ("silu", "sigmoid", "hard_swish", "tanh")
SMALLEST = 1e-3
"""Share of a tensor's range below which a channel is not amplified any further."""


def balance(graph: Graph, batches: Sequence[Array], floating: Collection[str]) -> Graph:
    """Copy of a prepared float graph with the same function and activations whose channels have like ranges.

    `floating` names the nodes that run in float on the target: on either side of a curve among them a product by
    channel (a batch norm without shift) may stand.
    """
    result = graph.copy()
    curves = [node for node in result.nodes if node.op in CURVES and node.name in floating]
    channels = ChannelIds(result, {node.name for node in curves})
    ranges = channel_ranges(graph, batches)
    total = _behind(channels, ranges) * _before(channels, curves, ranges)
    for node in curves:
        _insert(result, node, total[channels.ids[node.inputs[0]]], total[channels.ids[node.name]])
    return result.verify()


def channel_ranges(graph: Graph, batches: Sequence[Array]) -> Ranges:
    """Lowest and highest value of each channel of every activation over the images."""
    low: dict[str, torch.Tensor] = {}
    high: dict[str, torch.Tensor] = {}

    def observe(name: str, value: torch.Tensor) -> None:
        flat = value.reshape(-1, value.shape[-1])
        least, greatest = flat.amin(0), flat.amax(0)
        low[name] = torch.minimum(low[name], least) if name in low else least
        high[name] = torch.maximum(high[name], greatest) if name in high else greatest

    executor = TorchExecutor(graph)
    with torch.inference_mode():
        for batch in batches:
            executor({graph.inputs[0]: torch.from_numpy(batch)}, observe)
    return {name: (low[name].double().numpy(), high[name].double().numpy()) for name in low}


def _behind(channels: ChannelIds, ranges: Ranges) -> Floats:
    """Factors that balance activations against the weights that read them, applied; 1 where a curve reads."""
    size, total = _sizes(channels, ranges), np.ones(len(channels.parent))
    for _ in range(ROUNDS):
        read = _read(channels)
        free = (size > 0) & (read > 0)
        free[list(channels.fixed)] = False
        factors = np.ones(len(size))
        factors[free] = np.sqrt(read[free] / size[free])
        factors[free] /= np.exp(np.log(factors[free]).mean()) if free.any() else 1.0
        factors = np.clip(factors, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
        channels.scale(factors)
        size, total = size * factors, total * factors
        if np.abs(np.log(factors)).max(initial=0) < 1e-2:
            break
    return total


def _sizes(channels: ChannelIds, ranges: Ranges) -> Floats:
    """Greatest |value| of each channel id, over all tensors that have it."""
    size = np.zeros(len(channels.parent))
    for name, ids in channels.ids.items():
        if name in ranges:
            low, high = ranges[name]
            whole = np.maximum(np.abs(low), np.abs(high))
            np.maximum.at(size, ids, np.maximum(whole, SMALLEST * whole.max(initial=0)))
    return size


def _read(channels: ChannelIds) -> Floats:
    """How large the weights that read each channel are, beside those of the same output channel; a depthwise layer has
    a scale of its own for each channel, so that it takes any.
    """
    read = np.zeros(len(channels.parent))
    for layer in channels.layers:
        np.maximum.at(read, layer.inputs, _relative(layer))
    return read


def _relative(layer: Layer) -> Floats:
    size = np.abs(layer.weights)
    if layer.node.op == "depthwise_conv2d":
        return np.ones(size.shape[-1])
    rows = size.reshape(len(size), -1).max(1).clip(1e-12)
    relative: Floats = (size / rows.reshape(-1, *[1] * (size.ndim - 1))).reshape(-1, size.shape[-1]).max(0)
    return relative


def _before(channels: ChannelIds, curves: Sequence[Node], ranges: Ranges) -> Floats:
    """Factors that bring each channel in front of a curve to the same range, applied."""
    factors = np.ones(len(channels.parent))
    for node in curves:
        ids = channels.ids[node.inputs[0]]
        low, high = ranges[node.inputs[0]]
        used = np.maximum(high, np.minimum(-low, FLAT))
        used = np.maximum(used, SMALLEST * used.max(initial=0))
        factors[ids] = np.where(np.isin(ids, list(channels.fixed)), 1.0, BALANCED / np.maximum(used, 1e-9))
    channels.scale(factors)
    return factors


def _insert(graph: Graph, node: Node, entering: Floats, leaving: Floats) -> None:
    """Undo the factors in front of a curve, and put those behind it in.

    An output of the graph has factor 1, so that its name stays with its value.
    """
    if np.any(entering != 1):
        node.inputs[0] = _product(graph, node, node.inputs[0], 1 / entering, f"{node.name}.restored")
    if np.any(leaving != 1):
        readers = graph.consumers()[node.name]
        evened = _product(graph, readers[0], node.name, leaving, f"{node.name}.evened")
        for reader in readers:
            reader.redirect(node.name, evened)


def _product(graph: Graph, before: Node, source: str, factors: Floats, name: str) -> str:
    """A product by channel, right in front of a node: a batch norm that only scales."""
    ones, zeros = np.ones(len(factors), np.float32), np.zeros(len(factors), np.float32)
    values = {"scale": factors.astype(np.float32), "bias": zeros, "mean": zeros, "var": ones}
    constants = [graph.add_constant(f"{name}.{word}", value) for word, value in values.items()]
    return graph.insert(before, "batch_norm", [source, *constants], name, eps=0.0)
