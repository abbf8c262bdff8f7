"""Legalize: a graph whose every node is one thing that the machine does, or no work at all.

Exact rewrites, each on a copy of the graph: hard-swish becomes hard-sigmoid and a multiplication, a depthwise
convolution with a multiplier a plain one, a map that must lie in two places at once gets a copy (an `identity` node).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lowwatt.ir.arithmetic import HARD_SIGMOID_FIX_POINT
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops.activation import hard_input_fix_point
from lowwatt.types import QuantParams

MOVES = ("reshape", "identity", "fix", "slice")
"""Operators that another name for the same bytes can stand for."""


def legalize(graph: Graph) -> Graph:
    """A graph of the same outputs that the rest of the lowering takes."""
    legal = graph.copy()
    for rewrite in REWRITES:
        rewrite(legal)
    return legal


def split_hard_activations(graph: Graph) -> None:
    """hard-sigmoid and hard-swish leave the operator that they are fused into: it rounds to 8 bits for them."""
    for node in list(graph.nodes):
        name = node.attrs.get("activation")
        if name in ("hard_sigmoid", "hard_swish"):
            quant = graph.tensor(node.name).quant
            if quant is not None:
                quant = QuantParams.power_of_two(hard_input_fix_point(node, quant))
            attrs = {**node.attrs, "activation": "none"}
            linear = graph.insert(node, node.op, node.inputs, f"{node.name}.linear", quant=quant, **attrs)
            node.become(name, [linear])


def split_hard_swish(graph: Graph) -> None:
    """hard-swish is its input times the input's hard-sigmoid at fix point 7 (docs/dpu.md 3.7)."""
    for node in list(graph.nodes):
        if node.op == "hard_swish":
            floats = graph.tensor(node.name).quant is None
            quant = None if floats else QuantParams.power_of_two(HARD_SIGMOID_FIX_POINT)
            gate = graph.insert(node, "hard_sigmoid", node.inputs, f"{node.name}.gate", quant=quant)
            node.become("mul", [node.inputs[0], gate])


def widen_depthwise(graph: Graph) -> None:
    """A depthwise convolution with several outputs a channel is a plain one whose other weights are zero."""
    for node in graph.nodes:
        weights = graph.tensor(node.inputs[1]) if node.op == "depthwise_conv2d" else None
        if weights is None or weights.data is None or weights.shape[0] == 1:
            continue
        mult, height, width, channels = weights.shape
        dense = np.zeros((channels, mult, height, width, channels), weights.data.dtype)
        for c in range(channels):
            dense[c, :, :, :, c] = weights.data[..., c]
        name = f"{node.name}.dense"
        graph.add_constant(name, dense.reshape(channels * mult, height, width, channels), weights.quant)
        node.op, node.inputs[1] = "conv2d", name
        node.attrs = {**node.attrs, "group": 1}


def spread_kernels(graph: Graph) -> None:
    """A dilated kernel that the array's phases do not fit (MISC, or with a stride) becomes one with zeros between."""
    for node in graph.nodes:
        down, across = node.attrs.get("dilation", (1, 1))
        strided = node.attrs.get("stride", (1, 1)) != (1, 1)
        if (down, across) == (1, 1) or not (node.op == "depthwise_conv2d" or (node.op == "conv2d" and strided)):
            continue
        weights = graph.tensor(node.inputs[1])
        first, height, width, last = weights.shape
        shape = (first, (height - 1) * down + 1, (width - 1) * across + 1, last)
        spread = np.zeros(shape, np.int8 if weights.quant is not None else np.float32)
        if weights.data is not None:
            spread[:, ::down, ::across] = weights.data
        name = f"{node.name}.spread"
        graph.add_constant(name, spread, weights.quant)
        node.inputs[1] = name
        node.attrs = {**node.attrs, "dilation": (1, 1)}


def blend_by_convolution(graph: Graph) -> None:
    """A bilinear resize is a transposed convolution with tent-shaped weights, of the map with its edge repeated once.

    Weights are whole sixteenths (scale 2, half pixels) to sixty-fourths, so that the result is exact.
    """
    for node in list(graph.nodes):
        if node.op != "resize" or node.attrs["mode"] != "bilinear":
            continue
        source, scale = graph.tensor(node.inputs[0]), int(node.attrs["scale"][0])
        low, tent = _tent(scale, bool(node.attrs["half_pixel"]))
        pads = (0, 0, 1, 1, 1, 1, 0, 0)
        edge = graph.insert(
            node, "pad", node.inputs, f"{node.name}.edge", quant=source.quant, pads=pads, mode="symmetric"
        )
        weights, digits = _tent_weights(tent, source.shape[3])
        quant = None if source.quant is None else QuantParams.power_of_two(digits)
        constant = f"{node.name}.tent"
        graph.add_constant(constant, weights if quant is not None else weights.astype(np.float32), quant)
        first, last = scale - low, low + len(tent)
        pad = (first, last, first, last)
        node.become("transposed_conv2d", [edge, constant], stride=(scale, scale), pad=pad)


def _tent(scale: int, half_pixel: bool) -> tuple[int, list[int]]:
    """Least distance of an output from `scale` times an input that sees it, and whole weights from there on."""
    shift, unit = (0.5, 2 * scale) if half_pixel else (0.0, scale)
    middle = 0.5 if half_pixel else 0.0
    found = [(t, round(unit * (1 - abs((t + shift) / scale - middle)))) for t in range(-2 * scale, 2 * scale + 1)]
    inside = [(t, weight) for t, weight in found if weight > 0]
    return inside[0][0], [weight for _, weight in inside]


def _tent_weights(tent: list[int], channels: int) -> tuple[np.ndarray, int]:
    """[out, kh, kw, in] with one channel each, as stored (docs/dpu.md 4.3), and the fix point of its whole numbers."""
    line = np.array(tent[::-1], np.int64)
    # what the weights of one output add up to along an axis: a power of two
    unit = max(tent) + min(tent) if len(tent) % 2 == 0 else max(tent)
    weights = np.zeros((channels, len(line), len(line), channels), np.int8)
    for c in range(channels):
        weights[c, :, :, c] = np.outer(line, line)
    return weights, 2 * (unit.bit_length() - 1)


def move_fix_points(graph: Graph) -> None:
    """A pool or resize keeps its input's fix point; what moves it comes after (docs/dpu.md 3.4)."""
    for node in list(graph.nodes):
        source, out = graph.tensor(node.inputs[0]).quant, graph.tensor(node.name).quant
        if node.op in ("max_pool", "resize", "pad") and source != out:  # a bilinear resize is no resize any more
            raw = graph.insert(node, node.op, node.inputs, f"{node.name}.raw", quant=source, **node.attrs)
            node.become("identity", [raw])


def separate_concats(graph: Graph) -> None:
    """Each member of a concat is written by a layer of its own, right to its place, and is nothing else's."""
    taken: set[str] = set()
    work = {n.name for n in graph.nodes if n.op not in MOVES}
    for node in list(graph.nodes):
        if node.op != "concat":
            continue
        for index, name in enumerate(node.inputs):
            same = graph.tensor(name).quant == graph.tensor(node.name).quant
            if name in taken or name in graph.outputs or name not in work or not same:
                node.inputs[index] = _copy(graph, node, name, f"{node.name}.member{index}")
            taken.add(node.inputs[index])


def separate_reshapes(graph: Graph) -> None:
    """A reshape reads bytes that follow one another, not a part of something."""
    by_name = graph.producers()
    members = {name for node in graph.nodes if node.op == "concat" for name in node.inputs}
    for node in graph.nodes:
        if node.op == "reshape" and (node.inputs[0] in members or _is_slice(by_name.get(node.inputs[0]))):
            node.inputs[0] = _copy(graph, node, node.inputs[0], f"{node.name}.dense")


def _is_slice(node: Node | None) -> bool:
    return node is not None and node.op == "slice"


REWRITES: tuple[Callable[[Graph], None], ...] = (
    split_hard_activations,
    split_hard_swish,
    widen_depthwise,
    spread_kernels,
    blend_by_convolution,
    move_fix_points,
    separate_concats,
    separate_reshapes,
)
"""What `legalize` does, in order."""


def copies(graph: Graph) -> Iterator[str]:
    """Moves that are work: their output is the graph's, a concat's member, or at another fix point."""
    members = {name for node in graph.nodes if node.op == "concat" for name in node.inputs}
    for node in graph.nodes:
        moved = graph.tensor(node.inputs[0]).quant != graph.tensor(node.name).quant if node.inputs else False
        if node.op in MOVES and (node.name in graph.outputs or node.name in members or moved):
            yield node.name


def _copy(graph: Graph, before: Node, source: str, name: str) -> str:
    """An identity of `source`, at the fix point that `before` has, in front of it."""
    return graph.insert(before, "identity", [source], name, quant=graph.tensor(before.name).quant)
