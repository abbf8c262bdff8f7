"""The vendor's figure of an operator's work, as its compiled files state it beside each operator and subgraph.

Two operations a multiply-accumulate and one an output element for the bias; `on_arch` counts what the array does, with
rows, input and output channels rounded up to its sides. Read off genuine files (docs/dpu.md 4.8).
"""

from __future__ import annotations

from math import ceil, prod

from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

Work = tuple[int, int]
"""(operations, operations on the array)"""


def workload(node: Node, graph: Graph, target: Target) -> Work:
    """Work of a node for one image; (0, 0) for what moves bytes alone."""
    if node.op in ("conv2d", "transposed_conv2d", "linear", "depthwise_conv2d"):
        return _convolution(node, graph, target)
    if node.op in ("max_pool", "avg_pool"):
        each = prod(node.attrs["kernel"]) * (2 if node.op == "avg_pool" else 1)
        return _by_output(node, graph, target, each, target.options.pool_rows)
    if node.op in ("add", "mul"):
        return _by_output(node, graph, target, len(node.inputs), target.options.eltwise_rows)
    return 0, 0


def _by_output(node: Node, graph: Graph, target: Target, each: int, rows: int) -> Work:
    """`each` operations an output element, on so many rows and a word of channels at once."""
    _, height, width, channels = _map(graph, node.name)
    wide = _up(channels, target.array.input_channels)
    return each * height * width * channels, each * _up(height, rows) * width * wide


def _convolution(node: Node, graph: Graph, target: Target) -> Work:
    _, height, width, outputs = _map(graph, node.name)
    _, _, _, inputs = _map(graph, node.inputs[0])
    taps, bias = prod(graph.tensor(node.inputs[1]).shape[1:3]), len(node.inputs) > 2
    if node.op == "depthwise_conv2d":
        return _by_output(node, graph, target, 2 * taps + bias, target.options.depthwise_rows)
    lanes, filters = target.array.input_channels, target.array.output_channels
    if node.op == "linear":
        taps = 1
    elif node.op == "transposed_conv2d":
        taps //= prod(node.attrs["stride"])
    group = node.attrs.get("group", 1)
    real = (2 * taps * inputs // group + bias) * height * width * outputs
    return real, (2 * _words(node, graph, target, taps) * lanes + bias) * _rows(node, graph, target) * width * _up(
        outputs, filters
    )


def _words(node: Node, graph: Graph, target: Target, taps: int) -> int:
    """Words of input that an output sees; where LOAD packs columns beside few channels, fewer (docs/dpu.md 8.3)."""
    inputs, lanes = _map(graph, node.inputs[0])[3], target.array.input_channels
    width = graph.tensor(node.inputs[1]).shape[2] if node.op == "conv2d" else 1
    if target.options.augmentation and packs(inputs, width, lanes):
        return taps // width * ceil(inputs * width / lanes)
    return taps * ceil(inputs / lanes)


def packs(channels: int, columns: int, lanes: int) -> bool:
    """Whether a kernel's columns beside the channels make fewer words."""
    return ceil(channels * columns / lanes) < columns * ceil(channels / lanes)


def _rows(node: Node, graph: Graph, target: Target) -> int:
    """Output rows as the array makes them; a transposed convolution's are so many for each of its input's."""
    height = _map(graph, node.name)[1]
    if node.op != "transposed_conv2d":
        return _up(height, target.array.pixels)
    return _up(_map(graph, node.inputs[0])[1], target.array.pixels) * int(node.attrs["stride"][0])


def _map(graph: Graph, name: str) -> tuple[int, int, int, int]:
    """Shape with four dimensions; what has fewer is a row of vectors."""
    shape = graph.tensor(name).shape
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    return 1, 1, prod(shape[1:-1]) if len(shape) > 1 else 1, shape[-1] if shape else 1


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
