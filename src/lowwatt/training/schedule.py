"""Learning rate by step, and how many epochs fit into a time limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lowwatt.recipe import TrainSettings


@dataclass(frozen=True, slots=True)
class Schedule:
    """Quadratic warm-up, a course from the peak down to `final_share` of it, then constant for the plain epochs.

    The course is a cosine (YOLOX); or `flat-cosine`, the peak for the first half of the epochs, then a cosine (RTMDet,
    Lyu et al., 2022); or `multistep`, a tenth after each share of the epochs in `falls`, never below the final share.

    >>> s = Schedule(peak=1.0, final_share=0.1, epochs=10, steps=10, warmup_epochs=1, plain_epochs=2)
    >>> [round(s.rate(step), 3) for step in (0, 5, 10, 79, 80, 99)]
    [0.0, 0.25, 1.0, 0.1, 0.1, 0.1]
    """

    peak: float
    final_share: float
    epochs: int
    steps: int
    warmup_epochs: float
    plain_epochs: int
    course: str = "cosine"
    falls: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: TrainSettings, batch: int, steps: int) -> Schedule:
        """Schedule of a recipe; the rate is stated for 64 images and scales with the batch."""
        return cls(
            settings.lr * batch / 64,
            settings.final_lr,
            settings.epochs,
            steps,
            settings.warmup_epochs,
            settings.plain_epochs,
            settings.lr_schedule,
            tuple(settings.lr_steps),
        )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        warmup = self.warmup_epochs * self.steps
        if step < warmup:
            return self.peak * (step / warmup) ** 2
        floor = self.peak * self.final_share
        if self.course == "multistep":
            passed = sum(step >= round(fall * self.epochs * self.steps) for fall in self.falls)
            return max(floor, self.peak * 0.1**passed)
        end = (self.epochs - self.plain_epochs) * self.steps
        if step >= end:
            return floor
        start = max(warmup, self.epochs * self.steps / 2) if self.course == "flat-cosine" else warmup
        turn = max(0.0, step - start) / max(1.0, end - start)
        return floor + (self.peak - floor) * 0.5 * (1 + math.cos(math.pi * turn))

    def plain(self, epoch: int) -> bool:
        """Whether an epoch is one of the last, without mosaic and affine."""
        return epoch >= self.epochs - self.plain_epochs

    def shortened(self, epochs: int) -> Schedule:
        """The same course in fewer epochs: warm-up and plain epochs shrink with it."""
        if epochs >= self.epochs:
            return self
        share = epochs / self.epochs
        plain = round(self.plain_epochs * share)
        return replace(self, epochs=epochs, warmup_epochs=self.warmup_epochs * share, plain_epochs=plain)


@dataclass(slots=True)
class TimeLimit:
    """Chooses the number of epochs so that the whole schedule ends within `seconds`.

    Work is counted in input pixels, whose cost is measured while training.
    """

    seconds: float
    pixels: float = 0.0
    spent: float = 0.0

    def measure(self, pixels: float, seconds: float) -> None:
        """Add a measurement; older ones fade, so that a change of the machine's load is noticed."""
        self.pixels = 0.5 * self.pixels + pixels
        self.spent = 0.5 * self.spent + seconds

    def choose(self, full: Schedule, done: int, elapsed: float, pixels: tuple[float, float]) -> Schedule:
        """The longest shortening of `full` that ends in time; at least the `done` epochs, at least one.

        `pixels` is the work of an epoch with augmentation and of a plain one, evaluation included.
        """
        left = self.seconds - elapsed
        rate = self.spent / max(self.pixels, 1.0)
        least = max(1, done)
        for epochs in range(full.epochs, least, -1):
            schedule = full.shortened(epochs)
            plain = min(schedule.plain_epochs, epochs - done)
            if rate * ((epochs - done - plain) * pixels[0] + plain * pixels[1]) <= left:
                return schedule
        return full.shortened(least)
