"""Operators at the edge of the arithmetic: fix, identity, and operators of somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowwatt.ir.arithmetic import ROUNDINGS, Integers, move, saturate, shift
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import fail, integers, same_shape
from lowwatt.ir.opspec import REQUIRED, IntTensor, OpSpec
from lowwatt.types import Array, QuantParams, Shape

_MANY = 1 << 16


def _fix_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    if node.attrs["round_mode"] not in ROUNDINGS:
        raise fail(node, f"unknown round_mode {node.attrs['round_mode']!r}", hint=f"known: {', '.join(ROUNDINGS)}")
    return same_shape(node, shapes)


def _custom_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    return integers(node, "shape", least=1)


def _torch_copy(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    """The value itself: on floats, a fix point changes nothing."""
    return operands[0]


def _real_copy(node: Node, operands: Sequence[Array]) -> Array:
    return operands[0]


def _integer_fix(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """Integers at another fix point, rounded as `round_mode` says (docs/dpu.md 3.1)."""
    x = operands[0]
    return saturate(ROUNDINGS[node.attrs["round_mode"]](shift(x.values, out.fix_point - x.quant.fix_point)), out)


def _integer_identity(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    return move(operands[0].values, operands[0].quant.fix_point, out)


SPECS = [
    OpSpec("fix", _fix_shape, {"round_mode": "DPU_ROUND"}, integer=_integer_fix, real=_real_copy, torch=_torch_copy),
    OpSpec("identity", same_shape, integer=_integer_identity, real=_real_copy, torch=_torch_copy),
    OpSpec("custom", _custom_shape, {"type": REQUIRED, "shape": REQUIRED, "params": {}}, (0, _MANY)),
]
