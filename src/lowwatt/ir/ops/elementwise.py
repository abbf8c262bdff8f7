"""Arithmetic between tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from lowwatt.ir.graph import Node
from lowwatt.ir.ops.activation import ACTIVATION_ATTRS, check_activation, torch_fused
from lowwatt.ir.ops.checks import broadcast
from lowwatt.ir.opspec import OpSpec, TorchRule
from lowwatt.types import Shape

_MANY = 1 << 16


def _fused_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    check_activation(node)
    return broadcast(node, shapes)


def _fused(function: Callable[[Any, Any], Any]) -> TorchRule:
    def rule(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
        return torch_fused(torch, node, functools.reduce(function, operands))

    return rule


def _plain(function: Callable[[Any, Any], Any]) -> TorchRule:
    def rule(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
        return function(operands[0], operands[1])

    return rule


SPECS = [
    OpSpec("add", _fused_shape, ACTIVATION_ATTRS, (2, _MANY), torch=_fused(operator.add)),
    OpSpec("mul", _fused_shape, ACTIVATION_ATTRS, (2, _MANY), torch=_fused(operator.mul)),
    OpSpec("sub", broadcast, arity=(2, 2), torch=_plain(operator.sub)),
    OpSpec("div", broadcast, arity=(2, 2), torch=_plain(operator.truediv)),
    OpSpec("pow", broadcast, arity=(2, 2), torch=_plain(operator.pow)),
]
