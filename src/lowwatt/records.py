"""Dataclasses out of plain values that somebody else wrote (json, YAML): every value of the type that its field says.

Written without a library, since a board that has only NumPy and OpenCV reads its files with it. The texts are those
of pydantic, which reads recipes and reports.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


class WrongValue(ValueError):
    """A value that its field cannot have: `place` is the way to it, `unknown` says that there is no such field."""

    def __init__(self, why: str, place: tuple[str | int, ...] = (), unknown: bool = False) -> None:
        super().__init__(why)
        self.why, self.place, self.unknown = why, place, unknown

    def within(self, key: str | int) -> WrongValue:
        """The same, seen from the value around it."""
        return WrongValue(self.why, (key, *self.place), self.unknown)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Bound of an annotated number: Annotated[int, AtLeast(1)]; `Above` leaves the bound itself out."""

    bound: float

    def check(self, value: float) -> None:
        """WrongValue where the number is below."""
        if not value >= self.bound:
            raise WrongValue(f"Input should be greater than or equal to {self.bound}")


@dataclass(frozen=True, slots=True)
class Above:
    """See `AtLeast`."""

    bound: float

    def check(self, value: float) -> None:
        """WrongValue where the number is not above."""
        if not value > self.bound:
            raise WrongValue(f"Input should be greater than {self.bound}")


@dataclass(frozen=True, slots=True)
class Reader:
    """How to read: `by_hand` takes numbers in quotes too (YAML reads 1e9 as a text), `closed` refuses unknown keys.

    >>> Reader().read(tuple[int, ...], [1, 2])
    (1, 2)
    >>> Reader().read(float | None, "3")
    Traceback (most recent call last):
    lowwatt.records.WrongValue: Input should be a valid number
    """

    by_hand: bool = False
    closed: bool = False

    def read(self, kind: type[T] | Any, value: Any) -> T:
        """The value as a `kind`; WrongValue where it is none."""
        return cast(T, self._value(kind, value))

    def _value(self, hint: Any, value: Any) -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        if hint in _PLAIN:
            return _PLAIN[hint](value, self.by_hand)
        if is_dataclass(hint):
            return self._record(cast(type, hint), value)
        if origin is Annotated:
            return self._bounded(inner, value)
        if origin in (UnionType, Union):
            return None if value is None and type(None) in inner else self._value(inner[0], value)
        if origin is Literal:
            return _choice(inner, value)
        if origin is tuple:
            return self._row(inner, value)
        if origin is Mapping:
            return self._table(inner, value)
        raise TypeError(f"no field of ours is a {hint}")

    def _bounded(self, inner: tuple[Any, ...], value: Any) -> Any:
        found = self._value(inner[0], value)
        for bound in inner[1:]:
            bound.check(found)
        return found

    def _record(self, kind: type, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise WrongValue(f"Input should be a dictionary or an instance of {kind.__name__}")
        hints, found = _hints(kind), {}
        for name, needed in _fields(kind):
            if name in value:
                found[name] = self._at(name, hints[name], value[name])
            elif needed:
                raise WrongValue("Field required", (name,))
        if self.closed and (rest := [str(key) for key in value if key not in hints]):
            raise WrongValue("Unexpected keyword argument", (rest[0],), unknown=True)
        return kind(**found)

    def _row(self, inner: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise WrongValue("Input should be a valid tuple")
        if inner[-1] is Ellipsis:
            return tuple(self._at(index, inner[0], item) for index, item in enumerate(value))
        if len(value) < len(inner):
            raise WrongValue("Field required", (len(value),))
        if len(value) > len(inner):
            raise WrongValue(f"Tuple should have at most {len(inner)} items after validation, not {len(value)}")
        return tuple(self._at(index, *both) for index, both in enumerate(zip(inner, value, strict=True)))

    def _table(self, inner: tuple[Any, ...], value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise WrongValue("Input should be a valid mapping")
        return {self._at(key, inner[0], key): self._at(key, inner[1], item) for key, item in value.items()}

    def _at(self, key: str | int, hint: Any, value: Any) -> Any:
        try:
            return self._value(hint, value)
        except WrongValue as error:
            raise error.within(key) from None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, bool], ...]:
    """Names of the fields, and whether they must be given."""
    given = fields(kind)
    return tuple((one.name, one.default is MISSING and one.default_factory is MISSING) for one in given)


# -- plain values ----------------------------------------------------------------------------------------------


def _text(value: Any, by_hand: bool) -> str:
    if not isinstance(value, str):
        raise WrongValue("Input should be a valid string")
    return value


def _flag(value: Any, by_hand: bool) -> bool:
    if type(value) is not bool:
        raise WrongValue("Input should be a valid boolean")
    return value


def _real(value: Any, by_hand: bool) -> float:
    found = _number(value, "a", "number", by_hand)
    if not isfinite(found):
        raise WrongValue("Input should be a finite number")
    return float(found)


def _whole(value: Any, by_hand: bool) -> int:
    if type(value) is int:
        return value
    if not by_hand:
        raise WrongValue("Input should be a valid integer")
    found = _number(value, "an", "integer", by_hand)
    if not isfinite(found) or found != int(found):
        raise WrongValue("Input should be a valid integer, got a number with a fractional part")
    return int(found)


def _number(value: Any, article: str, what: str, by_hand: bool) -> int | float:
    if by_hand and isinstance(value, str):
        try:
            return int(value) if value.strip().isdecimal() else float(value)
        except ValueError:
            raise WrongValue(f"Input should be a valid {what}, unable to parse string as {article} {what}") from None
    if type(value) not in (int, float):
        raise WrongValue(f"Input should be a valid {what}")
    try:
        return float(value) if what == "number" else value
    except OverflowError:
        raise WrongValue("Input should be a finite number") from None


_PLAIN: Mapping[Any, Callable[[Any, bool], Any]] = {str: _text, bool: _flag, float: _real, int: _whole}


def _choice(known: Sequence[Any], value: Any) -> Any:
    """The known value itself, of its own type: True is not 1."""
    for one in known:
        if type(one) is type(value) and one == value:
            return one
    words = [repr(one) for one in known]
    listed = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    raise WrongValue(f"Input should be {listed}")
