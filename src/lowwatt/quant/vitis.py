"""The DPU's rules between fix points, which make a quantized graph legal (docs/dpu.md 3.11: nndct's fix_pos_adjust)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.quant.plan import WEIGHTED, Params, Plan, float_nodes
from lowwatt.types import QuantParams

MAX_SHIFT_CUT = 16
MAX_SHIFT_BIAS = 16

Points = dict[str, int]


def legalize(graph: Graph, plan: Plan, params: Params) -> dict[str, QuantParams]:
    """The formats with fix points moved until every rule holds; a group moves as one."""
    points = {name: quant.fix_point for name, quant in params.items()}
    groups = {slot.name: slots for slots in plan.groups().values() for slot in slots}
    floating = float_nodes(graph, plan.scheme) | plan.spared
    whole = [node for node in graph.nodes if node.name in plan.slots and node.name not in floating]

    def move(name: str, point: int) -> None:
        points.update({slot.name: point for slot in groups[name]})

    for _ in range(len(graph.nodes) + 1):
        if not sum(_legalize_node(node, points, move) for node in whole):
            return {name: replace(quant, scale=2.0 ** -points[name]) for name, quant in params.items()}
    raise ToolError("the fix points cannot be made legal", where=graph.name, hint="please report this graph")


def _legalize_node(node: Node, points: Points, move: Callable[[str, int], None]) -> bool:
    """Make one node legal; True where its output moved."""
    wanted = points[node.name]
    if node.op == "hard_sigmoid":
        wanted = max(wanted, 7)  # the upper limit of 1 is the clip at 127
    if node.attrs.get("activation") == "relu6" or node.op == "relu6":
        wanted = max(wanted, 4)  # below 4 the vendor's two references contradict each other (docs/dpu.md 3.9)
    if node.op in WEIGHTED:
        _window_weights(node, points)
        wanted = min(wanted, points[node.inputs[0]] + points[node.inputs[1]])  # shift_cut >= 0
        if len(node.inputs) > 2:
            _window_bias(node, wanted, points)
    if wanted == points[node.name]:
        return False
    move(node.name, wanted)
    return True


def _window_weights(node: Node, points: Points) -> None:
    """shift_cut = fi + fw - fo <= 16: coarser weights where it is not."""
    excess = points[node.inputs[0]] + points[node.inputs[1]] - points[node.name] - MAX_SHIFT_CUT
    points[node.inputs[1]] -= max(0, excess)


def _window_bias(node: Node, out: int, points: Points) -> None:
    """min(0, shift_cut - 16) <= shift_bias = fi + fw - fb <= 16."""
    total = points[node.inputs[0]] + points[node.inputs[1]]
    lowest = min(0, (total - out) - MAX_SHIFT_CUT)
    points[node.inputs[2]] = int(np.clip(points[node.inputs[2]], total - MAX_SHIFT_BIAS, total - lowest))


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
