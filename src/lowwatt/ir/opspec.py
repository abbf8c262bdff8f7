"""OpSpec: the one record of an operator. A new operator is one new record in `lowwatt.ir.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Node
from lowwatt.types import Array, QuantParams, Shape

REQUIRED: Any = object()
"""Default of an attribute that must be given."""


@dataclass(frozen=True, slots=True)
class IntTensor:
    """Integers with their quantization, as the integer reference sees an operand."""

    values: Array
    quant: QuantParams


class ShapeRule(Protocol):
    """Output shape from the input shapes; raises ToolError where they do not fit."""

    def __call__(self, node: Node, shapes: Sequence[Shape]) -> Shape:
        """The output's shape."""
        ...


class IntegerRule(Protocol):
    """Integer reference: integers of the output at `out`, saturated, from integer operands."""

    def __call__(self, node: Node, operands: Sequence[IntTensor], out: QuantParams) -> NDArray[np.int64]:
        """Integers of the output."""
        ...


class RealRule(Protocol):
    """Float form in NumPy: the output's value from real operands, constants included, in their own precision."""

    def __call__(self, node: Node, operands: Sequence[Array]) -> Array:
        """Value of the output."""
        ...


class TorchRule(Protocol):
    """Float form on torch, NHWC in and out. `torch` is the module, handed in so that nothing here imports it."""

    def __call__(self, torch: Any, node: Node, operands: Sequence[Any]) -> Any:
        """The output, a torch tensor."""
        ...


class MacRule(Protocol):
    """Multiply-accumulates of one run, from input shapes and output shape."""

    def __call__(self, node: Node, shapes: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates."""
        ...


_NUMBERS = frozenset(("alpha", "min", "max", "value", "eps"))
"""Attributes that are real numbers, also infinite ones (a pad in front of a max pool)."""


def _is_of_kind(key: str, value: Any, default: Any) -> bool:
    """Whether a value is of its attribute's kind; lists of numbers are the shape rules' business."""
    if key in _NUMBERS:
        return isinstance(value, Real) and value == value
    if key == "hsigmoid_in":
        return value is None or (isinstance(value, int) and -64 <= value <= 64)
    if isinstance(default, bool):
        return isinstance(value, (bool, np.bool_)) or value in (0, 1)
    if isinstance(default, int):
        return isinstance(value, Integral)
    return not isinstance(default, str) or isinstance(value, str)


def _no_macs(node: Node, shapes: Sequence[Shape], output: Shape) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class OpSpec:
    """Everything the project knows about one operator.

    `attrs` maps each attribute to its default (or REQUIRED); `arity` is the least and greatest number of inputs.
    """

    name: str
    shape: ShapeRule
    attrs: Mapping[str, Any] = field(default_factory=dict)
    arity: tuple[int, int] = (1, 1)
    integer: IntegerRule | None = None
    real: RealRule | None = None
    torch: TorchRule | None = None
    macs: MacRule = _no_macs

    def complete(self, attrs: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Attributes with defaults filled in; ToolError for unknown or missing ones, or of another kind."""
        for key in attrs:
            if key not in self.attrs:
                raise ToolError(f"{self.name} has no attribute {key}", where=where, hint=did_you_mean(key, self.attrs))
        full = {**self.attrs, **attrs}
        for key, value in full.items():
            if value is REQUIRED:
                raise ToolError(f"{self.name} needs the attribute {key}", where=where)
            if not _is_of_kind(key, value, self.attrs[key]):
                raise ToolError(f"{self.name} cannot have this {key}", where=where, why=f"it is {value!r:.80}")
        return full

    def output_shape(self, node: Node, shapes: Sequence[Shape]) -> Shape:
        """Output shape by the operator's rule, after checking the number of inputs."""
        low, high = self.arity
        if not low <= len(shapes) <= high:
            raise ToolError(
                f"{self.name} takes {low} to {high} inputs", where=node.name, why=f"it was given {len(shapes)}"
            )
        return self.shape(node, shapes)
