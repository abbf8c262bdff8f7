"""The numbers of an operator as instructions state them: shifts, activation codes, constants in the machine's order.

Rules: docs/dpu.md 3 (arithmetic) and 8.3 (fields). A graph without integers gets zeros; its program is for timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa.codes import ACTIVATIONS
from lowwatt.errors import ToolError
from lowwatt.ir import arithmetic
from lowwatt.ir.graph import Graph, Node
from lowwatt.types import Array

_SHIFT_LIMIT = 63


@dataclass(frozen=True, slots=True)
class Scaling:
    """How an accumulator becomes 8 bits: act_type, shift_cut, shift_bias."""

    act_type: int = 0
    shift_cut: int = 0
    shift_bias: int = 0


def fix_point(graph: Graph, name: str) -> int:
    """Fix point of a tensor; 0 where it has none."""
    quant = graph.tensor(name).quant
    return 0 if quant is None else quant.fix_point


def scaling(graph: Graph, node: Node) -> Scaling:
    """Scaling of a convolution; ToolError where its fix points do not fit the fields."""
    fi, fw, fo = (fix_point(graph, name) for name in (*node.inputs[:2], node.name))
    cut = arithmetic.shift_cut(fi, fw, fo)
    if not 0 <= cut <= _SHIFT_LIMIT:
        raise ToolError(
            "the fix points of a convolution do not fit the machine",
            where=node.name,
            why=f"shift_cut is {fi} + {fw} - {fo} = {cut}, legal is 0 to 16",
            hint="lowwatt quantize chooses legal fix points",
        )
    act = activation_code(node.attrs["activation"], fo)
    return Scaling(act, cut, max(0, _doubled_shift(graph, node)))


def activation_code(name: str, fo: int) -> int:
    """act_type; relu6 at fix point 5 and finer is a relu, since saturation comes first (docs/dpu.md 3.9)."""
    return ACTIVATIONS["relu" if name == "relu6" and fo > 4 else name]


def _doubled_shift(graph: Graph, node: Node) -> int:
    """Digits by which the bias is shifted to meet the doubled accumulator."""
    if len(node.inputs) == 2:
        return 0
    fi, fw, fb = (fix_point(graph, name) for name in node.inputs)
    return arithmetic.shift_bias(fi, fw, fb) + 1


def bias(graph: Graph, node: Node, channels: int) -> NDArray[np.int8]:
    """Bias as it lies in memory: where it would be shifted right, that is done here (floor, as the rule has it)."""
    if len(node.inputs) == 2:
        return np.zeros(channels, np.int8)
    values = integers(graph, node.inputs[2])
    return values >> min(7, max(0, -_doubled_shift(graph, node)))


def integers(graph: Graph, name: str) -> NDArray[np.int8]:
    """Integers of a constant; zeros for a float one."""
    tensor = graph.tensor(name)
    if tensor.data is None or tensor.quant is None:
        return np.zeros(tensor.shape, np.int8)
    return tensor.data.astype(np.int8)


def unit(fi: int, fo: int, activation: str) -> tuple[int, Scaling]:
    """Weight and scaling of a 1x1 depthwise convolution by exactly 1 that moves fi to fo.

    >>> unit(3, 5, "none")
    (4, Scaling(act_type=0, shift_cut=0, shift_bias=0))
    """
    digits = max(0, fo - fi)
    if digits > 6:
        raise ToolError("a fix point cannot be moved that far", why=f"from {fi} to {fo}", hint="at most 6 digits finer")
    return 1 << digits, Scaling(activation_code(activation, fo), fi + digits - fo)


def average(kernel: tuple[int, int], factors: tuple[int, int], fi: int, fo: int) -> tuple[int, Scaling]:
    """Factor N and scaling of an average N / 2**M over a window."""
    factor, digits = factors
    cut = digits + fi - fo
    if not 0 < factor < 128 or not 0 <= cut <= _SHIFT_LIMIT:
        raise ToolError("the average does not fit the machine", why=f"{kernel}: {factor} / 2**{digits}, shift {cut}")
    return factor, Scaling(shift_cut=cut)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Shifts of an elementwise operator: digits that each operand loses first, and digits of the result (+ left)."""

    reads: tuple[int, ...]
    write: int


def alignment(graph: Graph, node: Node) -> Alignment:
    """An addition brings all operands to the coarsest fix point; a multiplication shifts its product alone."""
    points = [fix_point(graph, name) for name in node.inputs]
    fo = fix_point(graph, node.name)
    if node.op == "mul":
        return Alignment((0,) * len(points), fo - sum(points))
    return Alignment(tuple(f - min(points) for f in points), fo - min(points))


def by_output(weights: Array, taps: Sequence[tuple[int, int]]) -> NDArray[np.int8]:
    """[out, positions, in]: each output channel's weights in the order in which LOAD brings them."""
    return np.ascontiguousarray(np.stack([weights[:, y, x] for y, x in taps], axis=1), np.int8)
