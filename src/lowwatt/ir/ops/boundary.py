"""Operators at the edge of the arithmetic: fix, identity, and operators of somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import fail, integers, same_shape
from lowwatt.ir.opspec import REQUIRED, OpSpec
from lowwatt.types import Shape

_MANY = 1 << 16
ROUND_MODES = ("DPU_ROUND", "STD_ROUND", "PY3_ROUND")


def _fix_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    if node.attrs["round_mode"] not in ROUND_MODES:
        raise fail(
            node, f"unknown round_mode {node.attrs['round_mode']!r}", hint=f"known: {', '.join(ROUND_MODES)}"
        )
    return same_shape(node, shapes)


def _custom_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    return integers(node, "shape", least=1)


def _torch_copy(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    """The value itself: on floats, a fix point changes nothing."""
    return operands[0]


SPECS = [
    OpSpec("fix", _fix_shape, {"round_mode": "DPU_ROUND"}, torch=_torch_copy),
    OpSpec("identity", same_shape, torch=_torch_copy),
    OpSpec("custom", _custom_shape, {"type": REQUIRED, "shape": REQUIRED, "params": {}}, (0, _MANY)),
]
