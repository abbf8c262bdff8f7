"""What an engine takes for an image, stage by stage, and what holds it back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lowwatt.meters import Meter, Recording, measure
from lowwatt.runtime.sources import Image, Source, images_of

if TYPE_CHECKING:
    from lowwatt.runtime.engine import Engine

WARM_UP = 8
"""Images before the clock starts: memory is touched, weights are in the cache, every stage has one."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds of a stage on an image while all stages run, and the share of the time that its workers are busy."""

    mean_ms: float
    p95_ms: float
    workers: int
    busy: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured: `fps` with all stages at work, `latency_ms` of one image alone (median), the stages, and the
    energy of all images where a meter was read.
    """

    images: int
    fps: float
    latency_ms: float
    stages: dict[str, StageTime]
    energy: Recording | None = None

    @property
    def joules_per_frame(self) -> float | None:
        """Energy of a frame with all stages at work; None without a meter."""
        return None if self.energy is None else self.energy.total / self.images

    @property
    def bottleneck(self) -> str:
        """The stage whose workers are busy most of the time."""
        return max(self.stages, key=lambda name: self.stages[name].busy)

    def __str__(self) -> str:
        lines = [
            f"{name:<14}{stage.mean_ms:8.2f} ms, 95 % below {stage.p95_ms:8.2f} ms, "
            f"{stage.workers} worker{'s' * (stage.workers > 1)} busy {100 * stage.busy:3.0f} %"
            for name, stage in self.stages.items()
        ]
        head = f"{self.images} images, {self.fps:.1f} a second; one alone takes {self.latency_ms:.2f} ms"
        spent = [f"{1000 * (self.joules_per_frame or 0):.3f} mJ a frame, {self.energy.how}"] if self.energy else []
        return "\n".join([head, *lines, f"held back by {self.bottleneck}", *spent])


def run_bench(engine: Engine, source: Source | None, seconds: float, meter: Meter | None = None) -> Bench:
    """`Engine.bench`."""
    preprocess = engine.preprocess
    noise = np.random.default_rng(0).integers(0, 256, (*preprocess.size, preprocess.channels), np.uint8)
    images = list(images_of(noise if source is None else source))
    alone = [sum(engine(image).timing.values()) for image in (images * 5)[:5]]
    timings, count, began, energy = [], 0, 0.0, None
    with closing(engine.stream(_again(images))) as results, ExitStack() as reading:
        for result in results:
            count += 1
            if count == WARM_UP:
                energy = None if meter is None else reading.enter_context(measure(meter))
                began = time.perf_counter()
            elif count > WARM_UP:
                timings.append(result.timing)
                if time.perf_counter() - began > seconds:
                    break
    fps = len(timings) / (time.perf_counter() - began)
    stages = {}
    for stage in engine.stages():
        times = 1000 * np.array([timing[stage.name] for timing in timings if stage.name in timing] or [0.0])
        busy = float(times.mean()) * fps / 1000 / len(stage.workers)
        p95 = float(np.percentile(times, 95))
        stages[stage.name] = StageTime(float(times.mean()), p95, len(stage.workers), min(busy, 1.0))
    return Bench(len(timings), fps, 1000 * float(np.median(alone)), stages, energy)


def _again(images: list[Image]) -> Iterator[Image]:
    while images:
        yield from images
