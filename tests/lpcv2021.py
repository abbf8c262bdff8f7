"""The published rows of the LPCV 2021 winner (docs/training-recipe.md 3, docs/dpu.md 5.2), one table each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LatencyRow(NamedTuple):
    """YOLOX-FPGA of a width and input side; latency in ms, the accelerator's part of it by another tile model."""

    name: str
    width: float
    side: int
    channels: int
    spp: bool
    latency_ms: float
    dpu_ms: float


class TimedRow(NamedTuple):
    """A published latency, and what a program takes: milliseconds of the accelerator, elements of output."""

    published: float
    dpu_ms: float
    elements: int

    def error(self, host: HostTerm) -> float:
        """How much too long the latency is modelled, as a part of the published one."""
        return (self.dpu_ms + host.element_ns * 1e-6 * self.elements + host.frame_ms) / self.published - 1


class HostTerm(NamedTuple):
    """What the processor adds to a frame."""

    element_ns: float
    frame_ms: float

    @classmethod
    def fit(cls, rows: Sequence[TimedRow]) -> HostTerm:
        """By least squares of the relative errors."""
        published, dpu, elements = (np.array(column, float) for column in zip(*rows, strict=True))
        terms = np.stack([elements * 1e-6, np.ones(len(rows))], axis=1) / published[:, None]
        return cls(*np.linalg.lstsq(terms, 1 - dpu / published, rcond=None)[0].tolist())

    @classmethod
    def left_out(cls, rows: Sequence[TimedRow]) -> list[HostTerm]:
        """For each row the fit to all others."""
        return [cls.fit([*rows[:k], *rows[k + 1 :]]) for k in range(len(rows))]


class ScoreRow(NamedTuple):
    """AP of the board (0...1), joules, latency in ms, frames a second as printed (None: not printed), printed score."""

    name: str
    ap: float
    energy_j: float
    latency_ms: float
    fps: float | None
    printed: float

    @property
    def speed(self) -> dict[str, float]:
        """What the printed score was made with."""
        return {"latency_ms": self.latency_ms} if self.fps is None else {"fps": self.fps}


LATENCY_ROWS = [
    LatencyRow("w.375 416 RGB", 0.375, 416, 3, True, 38.906, 27.30),
    LatencyRow("w.3125 416 RGB, no SPP", 0.3125, 416, 3, False, 32.232, 20.26),
    LatencyRow("w.25 416 RGB", 0.25, 416, 3, True, 27.575, 15.79),
    LatencyRow("w.375 288 gray", 0.375, 288, 1, True, 21.817, 15.15),
    LatencyRow("w.375 320 gray", 0.375, 320, 1, True, 24.557, 16.99),
    LatencyRow("w.375 352 gray", 0.375, 352, 1, True, 28.835, 19.74),
    LatencyRow("w.375 416 gray", 0.375, 416, 1, True, 38.838, 27.19),
]
SCORE_ROWS = [
    ScoreRow("w.3125 416, no SPP", 0.248, 548.888, 32.232, 31.025, 22.759),
    ScoreRow("gray 288", 0.246, 378.108, 21.817, 45.837, 49.681),
    ScoreRow("gray 320", 0.274, 416.239, 24.557, 40.723, 63.509),
    ScoreRow("gray 352", 0.293, 480.148, 28.835, 34.658, 57.444),
    ScoreRow("leaderboard 1", 0.274, 200.283, 26.625, None, 120.296),
    ScoreRow("leaderboard 2", 0.262, 201.394, 27.064, None, 98.357),
    ScoreRow("leaderboard 3", 0.241, 251.814, 34.849, None, 38.58),
    ScoreRow("leaderboard 4", 0.233, 227.456, 32.757, None, 37.036),
    ScoreRow("leaderboard 5", 0.237, 257.28, 34.305, None, 34.731),
    ScoreRow("leaderboard 6", 0.233, 258.196, 31.425, None, 34.28),
    ScoreRow("leaderboard 7", 0.254, 311.0, 42.057, None, 32.603),
    ScoreRow("leaderboard 8", 0.252, 319.332, 46.289, None, 27.036),
]
DO_NOT_FOLLOW = [
    ScoreRow("w.375 416", 0.300, 635.876, 38.906, 25.702, 34.510),
    ScoreRow("gray 416", 0.322, 635.785, 38.838, 25.748, 49.407),
]
"""Printed scores that the row's own figures do not give (the formula gives 32.557 and 39.813)."""
MEASURED_HERE = [row for row in [*SCORE_ROWS, *DO_NOT_FOLLOW] if row.fps is not None]
"""Rows whose energy is the winner's own measurement (the leaderboard's is of another rail and image count)."""
