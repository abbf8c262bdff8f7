"""Arithmetic between tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import Integers, align_for_add
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.activation import ACTIVATION_ATTRS, check_activation, finish, real_activation, torch_fused
from lowwatt.ir.ops.checks import broadcast
from lowwatt.ir.opspec import IntTensor, OpSpec, RealRule, TorchRule
from lowwatt.types import Array, QuantParams, Shape

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


def _real(function: Callable[[Any, Any], Any]) -> RealRule:
    def rule(node: Node, operands: Sequence[Array]) -> Array:
        value = functools.reduce(function, operands)
        return real_activation(node.attrs.get("activation", "none"), value, node.attrs.get("alpha", 0.0))

    return rule


def _integer_add(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """Operands aligned to the least fix point, floored to two guard bits, added (docs/dpu.md 3.3)."""
    lowest = min(x.quant.fix_point for x in operands)
    aligned = [align_for_add(x.values, x.quant.fix_point, lowest) for x in operands]
    return finish(node, np.ldexp(functools.reduce(np.add, aligned), out.fix_point - lowest - 2), out)


def _integer_mul(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """The product itself, rounded once: R(product / 2**(sum of fi - fo)) (docs/dpu.md 3.3)."""
    product = functools.reduce(np.multiply, [x.values.astype(np.float64) for x in operands])
    return finish(node, np.ldexp(product, out.fix_point - sum(x.quant.fix_point for x in operands)), out)


SPECS = [
    OpSpec("add", _fused_shape, ACTIVATION_ATTRS, (2, _MANY), _integer_add, _real(operator.add), _fused(operator.add)),
    OpSpec("mul", _fused_shape, ACTIVATION_ATTRS, (2, _MANY), _integer_mul, _real(operator.mul), _fused(operator.mul)),
    OpSpec("sub", broadcast, arity=(2, 2), real=_real(operator.sub), torch=_plain(operator.sub)),
    OpSpec("div", broadcast, arity=(2, 2), real=_real(operator.truediv), torch=_plain(operator.truediv)),
    OpSpec("pow", broadcast, arity=(2, 2), real=_real(operator.pow), torch=_plain(operator.pow)),
]
