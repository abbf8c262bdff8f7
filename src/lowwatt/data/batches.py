"""What all loaders share: a process's part of each step, made ahead by threads, the time waited for it measured."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from lowwatt.data.ahead import default_workers, in_order
from lowwatt.errors import ToolError
from lowwatt.recipe import TrainSettings

B = TypeVar("B")


class Batches(ABC, Generic[B]):
    """Gives the batches of an epoch. The last, incomplete batch is dropped where there is a complete one.

    `batch` are the images of a step, of all `world` processes together; `waited` the seconds that the reader of this
    epoch has waited. ToolError for a data set without images, and for steps that cannot be shared evenly.
    """

    def __init__(self, settings: TrainSettings, count: int, source: Path, rank: int, world: int) -> None:
        if not count:
            raise ToolError("there is no image to train on", where=str(source))
        self.settings, self.rank, self.world, self.waited = settings, rank, world, 0.0
        self.batch = min(settings.batch, count)
        if self.batch % world:
            why = f"{self.batch} images a step for {world} processes"
            raise ToolError("a step cannot be shared evenly", why=why, hint=f"set train.batch to a multiple of {world}")
        self.workers = default_workers(world) if settings.workers is None else settings.workers
        self._upload: Callable[[B], B] | None = None

    def send(self, upload: Callable[[B], B]) -> None:
        """Have the threads bring the batches that they make to a GPU, by `upload`."""
        self._upload = upload

    def epoch(self, epoch: int, augment: bool, start: int = 0) -> Iterator[B]:
        """Batches of one epoch from step `start` on, the same for the same (seed, epoch), whatever the workers."""
        self.waited = 0.0
        with contextlib.closing(in_order(self._ready, self.jobs(epoch, augment, start), self.workers)) as batches:
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                self.waited += time.perf_counter() - began
                if batch is None:
                    return
                yield batch

    def _ready(self, *job: object) -> B:
        batch = self.make(*job)
        return batch if self._upload is None else self._upload(batch)

    @abstractmethod
    def jobs(self, epoch: int, augment: bool, start: int) -> Iterable[tuple[object, ...]]:
        """Arguments of `make` for each step from `start` on, this process's part of it."""

    @abstractmethod
    def make(self, *job: object) -> B:
        """One batch; called in threads."""
