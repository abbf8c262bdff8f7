"""Batches for training: decoded images kept in memory, augmented deterministically by (seed, epoch, position)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.augment import Sample, affine, mosaic, plain
from lowwatt.data.coco import CocoData
from lowwatt.errors import ToolError
from lowwatt.letterbox import letterbox, read_image
from lowwatt.recipe import TrainSettings
from lowwatt.types import Preprocess

CACHE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Batch:
    """images uint8 (N, side, side, C); per image boxes float32 (n, 4) in pixels of the batch and labels int64 (n,)."""

    images: NDArray[np.uint8]
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]
    files: list[str]


class ImageCache:
    """Decoded images scaled as the letterbox to `side` pixels does, with their boxes; kept up to `limit` bytes.

    Crowd boxes and boxes without area are left out: they are no targets.
    """

    def __init__(self, data: CocoData, channels: int, side: int, limit: int = CACHE_BYTES) -> None:
        self.data, self.channels, self.side, self.limit = data, channels, side, limit
        self._kept: dict[int, Sample] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        sample = self._read(index)
        if self._bytes + sample.image.nbytes <= self.limit:
            self._kept[index] = sample
            self._bytes += sample.image.nbytes
        return sample

    def _read(self, index: int) -> Sample:
        preprocess = Preprocess((self.side, self.side), self.channels)
        padded, fit = letterbox(read_image(self.data.images[index].path, self.channels), preprocess)
        height, width = fit.resized
        annotated = self.data.boxes[index]
        usable = ~annotated.crowd & (annotated.xywh[:, 2:] > 0).all(1)
        boxes = fit.to_input(annotated.xyxy[usable])
        return Sample(np.ascontiguousarray(padded[:height, :width]), boxes, annotated.label[usable])


class TrainLoader:
    """Gives the batches of an epoch. The last, incomplete batch is dropped where there is a complete one."""

    def __init__(
        self, data: CocoData, preprocess: Preprocess, settings: TrainSettings, rank: int = 0, world: int = 1
    ) -> None:
        if not len(data):
            raise ToolError("there is no image to train on", where=str(data.source))
        self.settings, self.preprocess = settings, preprocess
        self.rank, self.world, self.waited = rank, world, 0.0
        self.batch = min(settings.batch, len(data))
        low, high = (max(1, round(share * preprocess.size[0] / 32)) for share in settings.multiscale)
        self._range = low, high
        largest = max(1.0, settings.multiscale[1]) * max(preprocess.size)
        self.cache = ImageCache(data, preprocess.channels, round(largest))

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return len(self.cache) // self.batch

    def side(self, epoch: int, step: int, augment: bool) -> int:
        """Side of a batch in pixels, a multiple of 32; the model's own in the plain epochs."""
        if not augment:
            return self.preprocess.size[0]
        low, high = self._range
        return 32 * int(np.random.default_rng((self.settings.seed, 1, epoch, step)).integers(low, high + 1))

    def pixels(self, augment: bool) -> float:
        """Input pixels of an epoch, expected."""
        sides = [32 * k for k in range(self._range[0], self._range[1] + 1)] if augment else [self.preprocess.size[0]]
        return self.steps * self.batch * sum(side * side for side in sides) / len(sides)

    def epoch(self, epoch: int, augment: bool, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch, the same for the same (seed, epoch), whatever the number of workers."""
        order = np.random.default_rng((self.settings.seed, 2, epoch)).permutation(len(self.cache))
        jobs = [
            (epoch, step, order[step * self.batch : (step + 1) * self.batch][self.rank :: self.world], augment)
            for step in range(start, self.steps)
        ]
        if self.settings.workers == 0:
            yield from (self._batch(*job) for job in jobs)
            return
        with ThreadPoolExecutor(self.settings.workers) as pool:
            ahead: deque[Future[Batch]] = deque()
            for job in jobs:
                ahead.append(pool.submit(self._batch, *job))
                if len(ahead) > 2 * self.settings.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _batch(self, epoch: int, step: int, indices: NDArray[np.int64], augment: bool) -> Batch:
        side = self.side(epoch, step, augment)
        samples = [self._sample(int(i), (self.settings.seed, 3, epoch, int(i)), side, augment) for i in indices]
        images = np.stack([sample.image for sample in samples])
        return Batch(
            images,
            [s.boxes for s in samples],
            [s.labels for s in samples],
            [self.cache.data.images[i].path.name for i in indices],
        )

    def _sample(self, index: int, seed: tuple[int, ...], side: int, augment: bool) -> Sample:
        rng, settings, pad = np.random.default_rng(seed), self.settings, self.preprocess.pad_value
        if not augment:
            return plain(self.cache[index], side, rng, settings.flip, pad)
        if rng.random() >= settings.mosaic:
            return affine(self.cache[index], side, rng, settings, pad)
        others = rng.integers(0, len(self.cache), 3)
        return mosaic([self.cache[index], *(self.cache[int(i)] for i in others)], side, rng, settings, pad)
