"""Recording: what a meter gave during a run, and the energy that follows from it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.meters.base import How, Kind, Rail, counted

LATE = 10
"""Two reads of watts that lie further apart than so many intervals leave a gap: nobody looked in between."""
TOLERATED = 0.02
"""Share of a run that gaps may take before its energy no longer counts as known."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Seconds after the beginning, its length, and why the meter said nothing."""

    start: float
    seconds: float
    why: str


@dataclass(slots=True)
class Recording:
    """Readings of a run from `begin` to `end` (seconds of any one clock), and their integral.

    `values[k]` are the numbers of all rails at `times[k]`, watts or joules so far (`kind`); `failures` are reads that
    raised. Watts are integrated by the trapezoid rule; a counter's difference is taken. Both go from the exact begin to
    the exact end, by straight lines between the readings around them, also across a gap, which `gaps` states.

    >>> run = Recording("lab", "watts", "measured", (Rail("5V"),), end=2.0, times=[0.0, 2.0], values=[(3.0,), (5.0,)])
    >>> run.total, run.seconds, run.watts
    (8.0, 2.0, 4.0)
    """

    meter: str
    kind: Kind
    how: How
    rails: tuple[Rail, ...]
    provenance: str = ""
    interval: float | None = None
    begin: float = 0.0
    end: float = 0.0
    times: list[float] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)

    def check(self) -> None:
        """ToolError where the meter gave nothing while the run lasted."""
        if not self.times or self.times[-1] <= self.begin < self.end:
            why = self.failures[-1][1] if self.failures else "it was not read"
            raise ToolError("the meter gave no reading during the run", where=self.meter, why=why)

    @property
    def seconds(self) -> float:
        """Length of the run."""
        return self.end - self.begin

    @property
    def samples(self) -> int:
        """How many reads succeeded."""
        return len(self.times)

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the rails that `total` adds up."""
        return tuple(self.rails[position].name for position in counted(self.rails))

    @property
    def joules(self) -> dict[str, float]:
        """Energy of each rail; raises as `check` does."""
        self.check()
        ends = np.array([self.begin, self.end])
        found = self._integral() if self.kind == "watts" else np.diff(self._at(ends, extend=True), axis=0)[0]
        return {rail.name: float(energy) for rail, energy in zip(self.rails, found, strict=True)}

    @property
    def total(self) -> float:
        """Joules of the rails that are part of no other one here."""
        joules = self.joules
        return sum(joules[name] for name in self.counted)

    @property
    def watts(self) -> float:
        """Mean power, total / seconds."""
        return self.total / self.seconds

    @property
    def gaps(self) -> list[Gap]:
        """Stretches without a reading, one after the other."""
        inner = [time for time in self.times if self.begin < time < self.end]
        knots = [self.begin, *inner, self.end]
        reasons = [(start, end, self._silence(start, end)) for start, end in itertools.pairwise(knots)]
        return [Gap(start - self.begin, end - start, why) for start, end, why in reasons if why]

    @property
    def whole(self) -> bool:
        """Whether gaps leave so little of the run open that its energy is known."""
        return sum(gap.seconds for gap in self.gaps) <= TOLERATED * self.seconds

    def to_json(self) -> dict[str, Any]:
        """Every figure as json-able values."""
        return {
            "meter": self.meter,
            "how": self.how,
            "joules": self.total,
            "watts": self.watts,
            "seconds": self.seconds,
            "rails": {
                name: {"joules": joules, "counted": name in self.counted} for name, joules in self.joules.items()
            },
            "feeds": {rail.name: rail.feeds for rail in self.rails if rail.feeds},
            "samples": self.samples,
            "gaps": [{"start": gap.start, "seconds": gap.seconds, "why": gap.why} for gap in self.gaps],
            "provenance": self.provenance,
        }

    def power(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times since the beginning, and watts at them, (N,) and (N, rails): a curve with the same integral.

        A counter's power is constant between two reads: each time comes twice there, with the power before and behind.
        """
        if self.kind == "watts":
            times, values = self._knots()
            return times - self.begin, values
        times = np.array([self.begin, *(t for t in self.times if self.begin < t < self.end), self.end])
        steps = np.diff(self._at(times, extend=True), axis=0) / np.diff(times)[:, None]
        return np.repeat(times, 2)[1:-1] - self.begin, np.repeat(steps, 2, axis=0)

    # -- curves ----------------------------------------------------------------------------------------------------

    def _integral(self) -> NDArray[np.float64]:
        times, values = self._knots()
        areas: NDArray[np.float64] = np.diff(times)[:, None] * (values[1:] + values[:-1]) / 2
        return np.asarray(areas.sum(axis=0))

    def _knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times from the exact begin to the exact end, and the values at them."""
        times, values = np.array(self.times), np.array(self.values)
        inside = (times > self.begin) & (times < self.end)
        first, last = self._at(np.array([self.begin, self.end]))
        return np.concatenate(([self.begin], times[inside], [self.end])), np.vstack((first, values[inside], last))

    def _at(self, when: NDArray[np.float64], extend: bool = False) -> NDArray[np.float64]:
        """Values at any times: on straight lines; beyond the last read as that, or `extend`ed at the mean pace."""
        times, values = np.array(self.times), np.array(self.values)
        found = np.stack([np.interp(when, times, column) for column in values.T], axis=1)
        beyond = np.maximum(when - times[-1], 0.0)
        if extend and len(times) > 1 and beyond.any():
            pace = (values[-1] - values[0]) / (times[-1] - times[0])
            found = found + beyond[:, None] * pace
        return found

    def _silence(self, start: float, end: float) -> str:
        """Why nothing was read between two times; empty where nothing is missing."""
        failed = [why for time, why in self.failures if start <= min(time, self.end) <= end]
        if failed:
            return failed[0]
        if self.kind == "watts" and self.interval is not None and end - start > LATE * self.interval:
            return "the meter was not read in time"
        return ""
