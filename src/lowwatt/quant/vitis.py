"""The vendor's number format: int8, symmetric, one power-of-two scale per tensor, and the rules that make it legal.

Sources of the rules: docs/dpu.md 3.11 and 3.12 (nndct's fix_pos_adjust).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import quantize as quantize_values
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.ops import spec
from lowwatt.quant.calibration import Histogram, constant_fix_point, group_fix_point
from lowwatt.types import QuantParams

COPIES = ("concat", "max_pool", "resize", "slice", "reshape", "transpose", "pad", "identity", "reduce_max")
"""Operators that move integers without arithmetic: input and output share one fix point."""

WEIGHTED = ("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear")
"""Operators with weights and a shifted sum; their shifts have a window."""

FUSIBLE = ("none", "relu", "relu6", "leaky_relu")

MAX_SHIFT_CUT = 16
MAX_SHIFT_BIAS = 16


def quantize_graph(graph: Graph, histograms: Mapping[str, Histogram], method: str) -> Graph:
    """Quantized copy of a prepared float graph (folded, activations fused): fix points chosen, made legal, applied."""
    unsupported(graph)
    points = activation_points(graph, histograms, method)
    constants = constant_points(graph, method)
    legalize(graph, points, constants)
    return apply(graph, points, constants)


def unsupported(graph: Graph) -> None:
    """Raise ToolError naming the first operator that can run neither on integers nor in a float island."""
    for node in graph.nodes:
        if (spec(node.op).integer or spec(node.op).real) is None:
            name = node.attrs["type"] if node.op == "custom" else node.op
            raise ToolError(f"{name} cannot run here", where=node.origin or node.name, hint="end the graph before it")
        if node.attrs.get("activation", "none") not in FUSIBLE:
            raise ToolError(
                f"{node.attrs['activation']} has no INT8 form inside {node.op}",
                where=node.origin or node.name,
                hint="make it an operator of its own",
            )


def float_nodes(graph: Graph) -> set[str]:
    """Nodes of a float graph that stay in float: its islands (docs/architecture.md, "Float islands").

    They are the operators without integers in this format, and what stands between or behind them: operators
    without weights that read of an island and whose own values only islands read, or nobody does (decoding at the
    end of a network).
    """
    readers = graph.consumers()
    always = {node.name for node in graph.nodes if spec(node.op).integer is None}
    joining = [node for node in graph.nodes if node.op not in WEIGHTED and node.name not in always]
    while True:
        inside = always.union(node.name for node in joining)
        kept = [n for n in joining if inside.intersection(n.inputs) and all(r.name in inside for r in readers[n.name])]
        if len(kept) == len(joining):
            return inside
        joining = kept


def integer_tensors(graph: Graph) -> set[str]:
    """Tensors, constants included, that carry integers: the inputs, and what a node makes or reads on integers."""
    floating = float_nodes(graph)
    whole = [node for node in graph.nodes if node.name not in floating]
    return {*graph.inputs, *(name for node in whole for name in (node.name, *node.inputs))}


def sharing_groups(graph: Graph) -> list[list[str]]:
    """Activations that must share one fix point, because a copy joins them; singletons included."""
    floating, integers = float_nodes(graph), integer_tensors(graph)
    parent = {name: name for name in [*graph.inputs, *(n.name for n in graph.nodes)] if name in integers}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if (
            node.op in COPIES
            and node.name not in floating
            and not (node.op == "resize" and node.attrs["mode"] != "nearest")
        ):
            for source in node.inputs:
                parent[root(source)] = root(node.name)
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def activation_points(graph: Graph, histograms: Mapping[str, Histogram], method: str) -> dict[str, int]:
    """Fix point of every input and node output; inputs are not clipped (the vendor searches them over one step)."""
    points: dict[str, int] = {}
    for group in sharing_groups(graph):
        is_input = any(name in graph.inputs for name in group)
        point = group_fix_point([histograms[name] for name in group], "minmax" if is_input else method)
        points.update(dict.fromkeys(group, point))
    return points


def constant_points(graph: Graph, method: str) -> dict[str, int]:
    """Fix point of every constant that carries integers."""
    integers = integer_tensors(graph)
    return {
        t.name: constant_fix_point(t.data, method)
        for t in graph.constants()
        if t.data is not None and t.name in integers
    }


def legalize(graph: Graph, points: dict[str, int], constants: dict[str, int]) -> None:
    """Move fix points, in place, until every rule holds; a group moves as one."""
    groups = {name: group for group in sharing_groups(graph) for name in group}
    floating = float_nodes(graph)
    whole = [node for node in graph.nodes if node.name not in floating]

    def move(name: str, point: int) -> None:
        points.update(dict.fromkeys(groups[name], point))

    for _ in range(len(graph.nodes) + 1):
        if not sum(_legalize_node(node, points, constants, move) for node in whole):
            return
    raise ToolError("the fix points cannot be made legal", where=graph.name, hint="please report this graph")


def _legalize_node(
    node: Node, points: dict[str, int], constants: dict[str, int], move: Callable[[str, int], None]
) -> bool:
    """Make one node legal; True where something moved."""
    wanted = points[node.name]
    if node.op == "hard_sigmoid":
        wanted = max(wanted, 7)  # the upper limit of 1 is the clip at 127
    if node.attrs.get("activation") == "relu6" or node.op == "relu6":
        wanted = max(wanted, 4)  # below 4 the vendor's two references contradict each other (docs/dpu.md 3.9)
    if node.op in WEIGHTED:
        _window_weights(node, points, constants)
        wanted = min(wanted, points[node.inputs[0]] + constants[node.inputs[1]])  # shift_cut >= 0
        if len(node.inputs) > 2:
            _window_bias(node, wanted, points, constants)
    if wanted == points[node.name]:
        return False
    move(node.name, wanted)
    return True


def _window_weights(node: Node, points: Mapping[str, int], constants: dict[str, int]) -> None:
    """shift_cut = fi + fw - fo <= 16: coarser weights where it is not."""
    excess = points[node.inputs[0]] + constants[node.inputs[1]] - points[node.name] - MAX_SHIFT_CUT
    constants[node.inputs[1]] -= max(0, excess)


def _window_bias(node: Node, out: int, points: Mapping[str, int], constants: dict[str, int]) -> None:
    """min(0, shift_cut - 16) <= shift_bias = fi + fw - fb <= 16."""
    total = points[node.inputs[0]] + constants[node.inputs[1]]
    lowest = min(0, (total - out) - MAX_SHIFT_CUT)
    constants[node.inputs[2]] = int(np.clip(constants[node.inputs[2]], total - MAX_SHIFT_BIAS, total - lowest))


def violations(graph: Graph) -> list[str]:
    """Rules that a quantized graph breaks, one sentence each; empty where it is legal."""
    found = []
    for node in [node for node in graph.nodes if on_integers(graph, node)]:
        fo = _point(graph, node.name)
        if node.op in WEIGHTED:
            total = _point(graph, node.inputs[0]) + _point(graph, node.inputs[1])
            cut = total - fo
            if not 0 <= cut <= MAX_SHIFT_CUT:
                found.append(f"{node.name}: shift_cut {cut} is outside 0…{MAX_SHIFT_CUT}")
            shift = total - _point(graph, node.inputs[2]) if len(node.inputs) > 2 else 0
            if not min(0, cut - MAX_SHIFT_CUT) <= shift <= MAX_SHIFT_BIAS:
                found.append(f"{node.name}: shift_bias {shift} is outside its window")
        if node.op in ("concat", "max_pool") and any(_point(graph, i) != fo for i in node.inputs):
            found.append(f"{node.name}: {node.op} joins different fix points")
        if node.attrs.get("activation") == "relu6" and fo < 4:
            found.append(f"{node.name}: relu6 at fix point {fo} < 4")
        if node.op == "hard_sigmoid" and fo < 7:
            found.append(f"{node.name}: hard-sigmoid at fix point {fo} < 7")
    return found


def _point(graph: Graph, name: str) -> int:
    quant = graph.tensor(name).quant
    if quant is None:
        raise ToolError("a tensor carries no quantization", where=name)
    return quant.fix_point


def apply(graph: Graph, points: Mapping[str, int], constants: Mapping[str, int]) -> Graph:
    """Copy of the graph with the given fix points on its tensors, and constants as integers (rounded half up)."""
    result = graph.copy()
    for tensor in result.tensors.values():
        point = (points if tensor.data is None else constants).get(tensor.name)
        if point is None:
            continue
        tensor.quant = QuantParams.power_of_two(point)
        tensor.dtype = tensor.quant.dtype
        if tensor.data is not None:
            tensor.data = quantize_values(tensor.data, tensor.quant)
    return result
