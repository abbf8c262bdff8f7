"""The LPCV 2021 score (FPGA track) and the energy that goes into it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lowwatt.errors import ToolError
from lowwatt.targets import Target, load_target

_SCALE = 1e4
_MIN_AP = 0.2
_MIN_FPS = 5.0


def score(*, ap: float, energy_j: float, fps: float | None = None, latency_ms: float | None = None) -> float:
    """1e4 / energy * max(ap - 0.2, 0) * max(fps - 5, 0), of the board's INT8 AP (0...1) and energy in joules.

    Give either `fps` or `latency_ms`. Source: docs/dpu.md 6.1 (LPCV 2021, FPGA track).
    Raises ToolError for neither or both of them, and for values that cannot be.

    >>> round(score(ap=0.274, energy_j=416.239, fps=40.723), 2)
    63.51
    """
    if (fps is None) == (latency_ms is None):
        raise ToolError("the score needs frames a second or milliseconds a frame, one of the two")
    if not 0 <= ap <= 1:
        raise ToolError("AP lies between 0 and 1", why=f"it is {ap}", hint="27.4 points are 0.274")
    speed = fps if fps is not None else 1000.0 / _positive("latency_ms", latency_ms)
    energy, speed = _positive("energy_j", energy_j), _positive("fps", speed)
    return _SCALE / energy * max(ap - _MIN_AP, 0.0) * max(speed - _MIN_FPS, 0.0)


def _positive(name: str, value: float | None) -> float:
    if value is None or not math.isfinite(value) or value <= 0:
        raise ToolError(f"{name} must be above zero", why=f"it is {value}")
    return value


@dataclass(frozen=True, slots=True)
class Energy:
    """Modelled energy of a whole run, its mean power, the number of images, and what the figures rest on."""

    joules: float
    watts: float
    images: int
    assumptions: str


def energy_model(latency_ms: float, images: int | None = None, target: Target | str = "ultra96v2-lpcv") -> Energy:
    """Energy of `images` frames (None: as many as the published runs) of `latency_ms` each.

    Watts x time + a constant an image. Source: docs/dpu.md 6.2, a fit over six rows of the winner's slides (mean error
    0.8 %). It is energy of the ARM rail, not of the accelerator or the DRAM; `assumptions` says so and belongs beside
    every figure.

    >>> round(energy_model(24.557).joules)
    419
    """
    machine = target if isinstance(target, Target) else load_target(target)
    figures = machine.energy
    count = figures.images if images is None else images
    if count < 1:
        raise ToolError("the energy of a run needs at least one image", why=f"images is {count}")
    seconds = _positive("latency_ms", latency_ms) / 1000
    joules = figures.joules(count * seconds, count)
    return Energy(joules, joules / (count * seconds), count, _assumptions(machine, count))


def _assumptions(target: Target, images: int) -> str:
    figures = target.energy
    return (
        f"modelled: {images} images x ({figures.watts} W x time + {figures.joules_per_image * 1000:g} mJ), "
        f"rail {figures.rail}; {figures.provenance}"
    )
