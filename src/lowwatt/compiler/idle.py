"""Idle: when the convolution array stands still, and whom it waits for, read off the clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.clock import Times, Work
from lowwatt.compiler.isa import ENGINES

BETWEEN = "between"
"""Waiting for the first rows and weights of a layer, or for the last ones of the program to be done and saved."""

WAITS: Mapping[str, str] = {"load": "for LOAD", "misc": "for MISC", "save": "for SAVE", BETWEEN: "between layers"}
"""What the array may wait for, and how that is said."""

_CONV = ENGINES.index("CONV")

Gap = tuple[float, float, str]
"""From, to (nanoseconds), and whom the array waits for."""


def idle_parts(owners: Sequence[int], work: Work, times: Times, windows: NDArray[np.float64]) -> list[dict[str, float]]:
    """For each layer the nanoseconds of its time in which the array waits, by whom for.

    `windows`: where the layers' times end, from 0 on; what a wait has of each is found by its time. So these parts and
    the array's own work fill the program's time.
    """
    gaps = list(_gaps(owners, work, times))
    found: list[dict[str, float]] = [{} for _ in windows[1:]]
    for wait in WAITS:
        mine = np.array([(begin, end) for begin, end, whom in gaps if whom == wait]).reshape(-1, 2)
        waited = np.stack([0 * mine[:, 0], mine[:, 1] - mine[:, 0]], axis=1).ravel().cumsum()
        at = np.interp(windows, mine.ravel(), waited) if len(mine) else 0 * windows
        for part, (first, last) in zip(found, pairwise(at.tolist()), strict=True):
            part[wait] = last - first
    return found


def _gaps(owners: Sequence[int], work: Work, times: Times) -> Iterator[Gap]:
    free, layer = 0.0, -1
    for index in np.flatnonzero(work.engines == _CONV).tolist():
        begin = float(times.start[index])
        if begin > free:
            yield free, begin, BETWEEN if owners[index] != layer else _whom(work.tokens[index], work, times)
        free = float(times.end[index])
        if work.counts[index]:
            layer = owners[index]
    if times.total > free:
        yield free, times.total, BETWEEN


def _whom(tokens: Sequence[int], work: Work, times: Times) -> str:
    """Engine of the token that came last."""
    return ENGINES[work.engines[max(tokens, key=lambda token: float(times.end[token]))]].lower()
