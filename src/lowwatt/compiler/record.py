"""Values of a program's file by the types of our dataclasses; what does not fit means that the file is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from lowwatt.errors import ToolError
from lowwatt.records import Reader, WrongValue

T = TypeVar("T")
_READER = Reader(closed=True)


def record(kind: type[T], row: Mapping[str, Any]) -> T:
    """A dataclass of a json object; ToolError that names the field where a value is of another type.

    >>> from lowwatt.compiler.rules import Verdict
    >>> record(Verdict, {"node": "a", "op": "add", "where": "dpu", "reasons": ["b"]}).reasons
    ('b',)
    """
    found: T = typed(kind, row, kind.__name__)
    return found


def typed(hint: Any, value: Any, where: str) -> Any:
    """The value as a type of ours: numbers finite, lists as tuples; ToolError where it is of another one."""
    try:
        return _READER.read(hint, value)
    except WrongValue as error:
        place = ".".join(map(str, (where, *error.place)))
        raise ToolError("the program's file is damaged", why=f"{place}: {error.why}"[:120]) from None
