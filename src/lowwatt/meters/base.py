"""What every power meter is: something that reads the watts, or the joules so far, of named rails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

from lowwatt.errors import ToolError, did_you_mean

if TYPE_CHECKING:
    from lowwatt.meters.recording import Recording

Kind = Literal["watts", "joules"]
How = Literal["measured", "modelled", "replayed"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply that is read: its name, what it feeds, the rails that its power is already part of, another name."""

    name: str
    feeds: str = ""
    within: tuple[str, ...] = ()
    alias: str = ""


class Meter(Protocol):
    """A power meter.

    `read` gives a number for each rail, in their order: watts now, or joules since any beginning, as `kind` says. It
    raises whatever goes wrong; a reading is never made up. `interval` is the seconds between two reads that suit the
    meter, `how` where the numbers come from, `provenance` the same in words.
    """

    name: str
    kind: Kind
    how: How
    rails: tuple[Rail, ...]
    interval: float
    provenance: str

    def read(self) -> Sequence[float]:
        """A number for each rail."""
        ...


@runtime_checkable
class Computed(Protocol):
    """A meter that needs no reading while something runs: it works out the energy of a stated time (model, trace)."""

    def over(self, seconds: float, images: int) -> Recording:
        """Energy of `images` frames in `seconds`. ToolError where the meter cannot say."""
        ...


@dataclass(frozen=True, slots=True)
class MeterStatus:
    """Whether a meter can be used here; where not, why, and what to do. `rails` are what it reads."""

    name: str
    usable: bool
    why: str
    how_to_get: str = ""
    rails: tuple[Rail, ...] = ()


def counted(rails: Sequence[Rail]) -> list[int]:
    """Positions of the rails that add up to the whole: those that are part of no other that is read.

    >>> counted([Rail("5V"), Rail("INT", within=("5V",))]), counted([Rail("INT", within=("5V",))])
    ([0], [0])
    """
    names = {rail.name for rail in rails}
    return [position for position, rail in enumerate(rails) if not names.intersection(rail.within)]


def pick(found: Sequence[tuple[Rail, T]], wanted: Sequence[str], meter: str) -> list[tuple[Rail, T]]:
    """The rails of these names, with what reads them; all where none is named. ToolError for an unknown one."""
    if not wanted:
        return list(found)
    table = {name: pair for pair in found for name in (pair[0].alias, pair[0].name) if name}
    for name in wanted:
        if name not in table:
            raise ToolError(f"the {meter} meter has no rail {name}", hint=did_you_mean(name, table))
    return list({table[name][0].name: table[name] for name in wanted}.values())
