"""One ONNX node as the reader's rules see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class Call:
    """One ONNX node: type, name of its value, name of the node, operands (None where left out), attributes."""

    op: str
    name: str
    origin: str
    inputs: list[Value | None]
    attrs: dict[str, Any]
    opset: int
    outputs: int = 1

    @property
    def names(self) -> dict[str, Any]:
        """name and origin, as the builder takes them."""
        return {"name": self.name, "origin": self.origin}

    @property
    def x(self) -> Value:
        """First operand."""
        return self.value(0)

    def refuse(self, why: str) -> NoReturn:
        """Raise the ToolError of this node."""
        raise ToolError(f"{self.op} cannot be read", where=self.origin, why=why)

    def value(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            self.refuse(f"operand {index} is missing")
        return value

    def constant(self, index: int) -> Array | None:
        """An operand that must be constant; None where it was left out."""
        if index >= len(self.inputs) or self.inputs[index] is None:
            return None
        data = self.value(index).data
        if data is None:
            self.refuse(f"operand {index} must be a constant")
        return data

    def ints(self, key: str, index: int = 99) -> list[int] | None:
        """Whole numbers from an attribute (older opsets) or a constant operand (newer ones)."""
        if key in self.attrs:
            return [int(n) for n in self.attrs[key]]
        data = self.constant(index)
        return None if data is None else [int(n) for n in np.asarray(data).reshape(-1)]


Rule = Callable[[LayoutBuilder, Call], Any]
