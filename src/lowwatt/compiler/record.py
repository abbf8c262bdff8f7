"""Dataclasses out of json that somebody else may have written: every value of the type that its field says."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lowwatt.errors import ToolError

T = TypeVar("T")


def record(kind: type[T], row: Mapping[str, Any]) -> T:
    """A dataclass of a json object; ToolError that names the field where a value is of another type.

    >>> from lowwatt.compiler.rules import Verdict
    >>> record(Verdict, {"node": "a", "op": "add", "where": "dpu", "reasons": ["b"]}).reasons
    ('b',)
    """
    hints = get_type_hints(kind)
    return kind(**{name: typed(hints.get(name), value, f"{kind.__name__}.{name}") for name, value in row.items()})


def typed(hint: Any, value: Any, where: str) -> Any:
    """The value as a type of ours: numbers finite, lists as tuples; ToolError where it is of another one."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(typed(inner[0], item, where) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {typed(inner[0], key, where): typed(inner[1], item, where) for key, item in value.items()}
    if origin is UnionType and value is None and type(None) in inner:
        return None
    if origin is UnionType:
        return typed(inner[0], value, where)
    if (origin is Literal and value in inner) or (hint in (int, str) and type(value) is hint):
        return value
    if hint is float and type(value) in (int, float) and isfinite(value):
        return float(value)
    raise ToolError("the program's file is damaged", why=f"{where} cannot be {value!r}"[:120])
