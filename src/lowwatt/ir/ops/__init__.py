"""The operators, one OpSpec record each; `spec(name)` finds it."""

from __future__ import annotations

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.ops import (
    activation,
    boundary,
    convolution,
    elementwise,
    layout,
    pooling,
    reduction,
    resize,
)
from lowwatt.ir.opspec import OpSpec

_FAMILIES = (convolution, pooling, elementwise, activation, layout, resize, reduction, boundary)
_SPECS: dict[str, OpSpec] = {record.name: record for family in _FAMILIES for record in family.SPECS}


def spec(name: str) -> OpSpec:
    """Record of operator `name`; ToolError where there is none."""
    if name not in _SPECS:
        raise ToolError(f"unknown operator {name}", hint=did_you_mean(name, _SPECS))
    return _SPECS[name]


def operator_names() -> tuple[str, ...]:
    """Names of all operators, in the order of their families."""
    return tuple(_SPECS)
