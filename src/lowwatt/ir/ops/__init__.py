"""The operators, one OpSpec record each; `spec(name)` finds it."""

from __future__ import annotations

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.opspec import OpSpec

_SPECS: dict[str, OpSpec] = {}


def spec(name: str) -> OpSpec:
    """Record of operator `name`; ToolError where there is none."""
    if name not in _SPECS:
        raise ToolError(f"unknown operator {name}", hint=did_you_mean(name, _SPECS))
    return _SPECS[name]
