"""From a graph to a Program: operator rules, parts, instruction words, time and traffic of every layer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowwatt.compiler.costs import LayerCost
    from lowwatt.compiler.passes import PASSES, Plan, compile
    from lowwatt.compiler.program import Program
    from lowwatt.compiler.segment import Segment

__all__ = ["PASSES", "LayerCost", "Plan", "Program", "Segment", "compile"]

_FILES = {"LayerCost": "costs", "Program": "program", "Segment": "segment"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: who runs a program needs no compiler."""
    if name not in __all__:
        raise AttributeError(f"module 'lowwatt.compiler' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lowwatt.compiler.{_FILES.get(name, 'passes')}"), name)
