"""One operator of an exported program as the rules see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from lowwatt.errors import ToolError
from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.types import Array

Result = Any
"""A Value, or a list of Values (None where one has no counterpart)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of the exported program: name and origin for the node, arguments by the schema's names.

    `shape` is that of the result (a list of shapes where there are several), `place` the user's line of source.
    """

    name: str
    origin: str
    args: dict[str, Any]
    shape: Any
    place: str

    @property
    def names(self) -> dict[str, Any]:
        """name and origin, as the builder takes them."""
        return {"name": self.name, "origin": self.origin}

    @property
    def x(self) -> Value:
        """First operand."""
        value: Value = next(iter(self.args.values()))
        return value

    def refuse(self, why: str) -> NoReturn:
        """Raise the ToolError of this call."""
        raise ToolError(f"{self.name} cannot be captured", where=self.place, why=why)


Rule = Callable[[LayoutBuilder, Call], Result]


def constant(call: Call, key: str) -> Array | None:
    """Value of a constant argument; None where it was not given."""
    value = call.args[key]
    if value is None:
        return None
    if value.data is None:
        call.refuse(f"{key} must be a constant")
    data: Array = value.data
    return data
