"""Reading dataclasses from plain values: types kept strictly, with the texts that pydantic has for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from lowwatt.records import Above, AtLeast, Reader, WrongValue
from lowwatt.types import DetectionHead, Preprocess


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    rows: Annotated[int, AtLeast(1)]
    clock: Annotated[float, Above(0)] = 1.0
    kind: Literal["a", "b", "c"] = "a"
    last: float | None = None


GOOD = {"inner": {"name": "x"}, "rows": 2}


def wrong(kind: Any, value: Any, **how: bool) -> WrongValue:
    with pytest.raises(WrongValue) as error:
        Reader(**how).read(kind, value)
    return error.value


@pytest.mark.parametrize(
    "kind, value, found",
    [
        (float, 3, 3.0),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], (1, "a"), (1, "a")),
        (Mapping[str, float], {"a": 1}, {"a": 1.0}),
        (float | None, None, None),
        (Outer, {**GOOD, "kind": "b", "last": 2}, Outer(Inner("x"), 2, 1.0, "b", 2.0)),
        (Outer, {"inner": Inner("y"), "rows": 1}, Outer(Inner("y"), 1)),
    ],
)
def test_values_that_fit(kind: Any, value: Any, found: Any) -> None:
    answer = Reader(closed=True).read(kind, value)
    assert answer == found and type(answer) is type(found)


@pytest.mark.parametrize(
    "kind, value",
    [
        (int, "x"),
        (int, None),
        (int, [1]),
        (float, {}),
        (str, 3),
        (str, None),
        (bool, None),
        (tuple[int, ...], 3),
        (tuple[int, ...], [1, None]),
        (tuple[int, int], [1]),
        (tuple[int, int], [1, 2, 3]),
        (Literal["a", "b", "c"], "d"),
        (Literal[0, 1], 2),
        (Preprocess, 4),
        (Preprocess, {"channels": 1}),
        (Preprocess, {"size": [1, 2], "channels": 1, "fit": "shrink"}),
        (Preprocess, {"size": [1], "channels": 1}),
        (DetectionHead, {"strides": [8], "outputs": [["a", "b", 3]], "num_classes": 1}),
        (Inner, {}),
    ],
)
def test_what_is_wrong_is_said_as_pydantic_says_it(kind: Any, value: Any) -> None:
    error = wrong(kind, value, by_hand=True)
    with pytest.raises(ValidationError) as theirs:
        TypeAdapter(kind).validate_python(value)
    first = theirs.value.errors()[0]
    assert (error.why, error.place) == (first["msg"], first["loc"])


@pytest.mark.parametrize("kind, value", [(int, True), (int, 1.0), (int, "1"), (float, "1"), (float, True), (bool, 1)])
def test_a_file_of_ours_keeps_its_types(kind: Any, value: Any) -> None:
    assert "Input should be a valid" in wrong(kind, value).why


@pytest.mark.parametrize(
    "kind, text, number", [(float, "1e9", 1e9), (float, "3", 3.0), (int, "12", 12), (int, 4.0, 4), (int, "4e1", 40)]
)
def test_numbers_written_by_hand(kind: type, text: Any, number: float) -> None:
    found = Reader(by_hand=True).read(kind, text)
    assert found == number and type(found) is kind


@pytest.mark.parametrize(
    "changed, place, why",
    [
        ({"rows": 0}, ("rows",), "Input should be greater than or equal to 1"),
        ({"clock": 0}, ("clock",), "Input should be greater than 0"),
        ({"clock": float("nan")}, ("clock",), "Input should be a finite number"),
        ({"clock": 10**400}, ("clock",), "Input should be a finite number"),
        ({"rows": 2.5}, ("rows",), "Input should be a valid integer, got a number with a fractional part"),
        ({"rows": float("inf")}, ("rows",), "Input should be a valid integer, got a number with a fractional part"),
        ({"inner": {"name": "x", "share": "much"}}, ("inner", "share"), "unable to parse string as a number"),
    ],
)
def test_the_place_of_a_wrong_value(changed: dict[str, Any], place: tuple[str, ...], why: str) -> None:
    error = wrong(Outer, {**GOOD, **changed}, by_hand=True)
    assert error.place == place and why in error.why and not error.unknown


def test_unknown_keys_are_refused_where_a_record_is_closed() -> None:
    more = {**GOOD, "inner": {"name": "x", "nmae": "y"}}
    assert Reader().read(Outer, more) == Outer(Inner("x"), 2)
    error = wrong(Outer, more, closed=True)
    assert error.unknown and error.place == ("inner", "nmae")
