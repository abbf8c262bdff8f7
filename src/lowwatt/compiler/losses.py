"""Losses: why a layer does not use the whole convolution array, as a few words for tables and reports."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from lowwatt.compiler.costs import LayerCost
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

_CONVOLUTIONS = ("conv2d", "transposed_conv2d", "linear")
_FULL = 0.95
"""A share from which on nothing is called lost."""


def why_low(row: LayerCost, graph: Graph, target: Target) -> str:
    """What keeps the array from its peak: lines that the layer does not fill, and what the array waits for.

    `3/12 in`: 3 of the 12 input channels that its passes have room for. Empty on the host, and where nothing is lost.
    """
    if row.where == "host":
        return ""
    if not row.cycles["conv"]:
        return "no convolution"
    return ", ".join([*_unfilled(row, graph, target), *_waits(row, target)])


def _unfilled(row: LayerCost, graph: Graph, target: Target) -> Iterator[str]:
    """Channels and rows that are no multiple of the array's; what these do not explain is work on zeros."""
    node = next((n for n in graph.nodes if n.name in row.nodes and n.op in _CONVOLUTIONS), None)
    if node is None or row.array_use >= _FULL:
        return
    left = row.array_use
    for size, lines, name in _extents(node, graph, target):
        room = ceil(size / lines) * lines
        share = size / room
        if share < _FULL and left <= share + 1e-9:  # else the layer was mapped so that this does not matter
            left /= share
            yield f"{size}/{room} {name}"
    if left < _FULL:
        yield "partial tiles" if node.attrs.get("dilation", (1, 1)) == (1, 1) else "dilation"


def _extents(node: Node, graph: Graph, target: Target) -> Iterator[tuple[int, int, str]]:
    inputs, output = graph.tensor(node.inputs[0]).shape, graph.tensor(node.name).shape
    yield inputs[-1], target.array.input_channels, "in"
    yield output[-1], target.array.output_channels, "out"
    if len(output) == 4:
        yield output[1], target.array.pixels, "rows"


def _waits(row: LayerCost, target: Target) -> Iterator[str]:
    """Whom the array waits for: the engine that works most of the time, or all in turn."""
    span = row.ms * 1e6 / target.cycle_ns
    if row.cycles["conv"] >= _FULL * span:
        return
    busiest = max((name for name in row.cycles if name != "conv"), key=lambda name: row.cycles[name])
    if row.cycles[busiest] >= row.cycles["conv"]:
        yield f"waits for {busiest.upper()}"
    else:
        yield "fill and drain"
