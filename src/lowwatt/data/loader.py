"""Batches for training: decoded images kept in memory, augmented deterministically by (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.augment import Chances, mixup, moved, plain
from lowwatt.data.balance import epoch_length, epoch_order, repeat_factors
from lowwatt.data.batches import Batches
from lowwatt.data.cache import Samples, open_source
from lowwatt.data.coco import CocoData
from lowwatt.data.jitter import jittered
from lowwatt.data.layout import Layout, Layouts, Sample, drawn
from lowwatt.recipe import TrainSettings
from lowwatt.types import Preprocess

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """images uint8 (N, side, side, C), or what is to be drawn for them; per image boxes float32 (n, 4) in pixels of the
    batch and labels int64 (n,).
    """

    images: NDArray[np.uint8] | Layouts
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]
    files: list[str]


class TrainLoader(Batches[Batch]):
    """Batches of images with boxes, mosaics where the recipe wants them.

    Batches that are sent to a GPU hold Layouts instead of pixels, to be drawn there; but images that are blended or
    coloured are made here.
    """

    def __init__(
        self, data: CocoData, preprocess: Preprocess, settings: TrainSettings, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(settings, len(data), data.source, rank, world)
        self.preprocess = preprocess
        low, high = (max(1, round(share * preprocess.size[0] / 32)) for share in settings.multiscale)
        self._range = low, high
        largest = max(1.0, settings.multiscale[1]) * max(preprocess.size)
        self.samples = Samples(data, open_source(data, preprocess.channels, round(largest), settings), round(largest))
        self._factors = repeat_factors(data, settings.balance)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return epoch_length(self._factors) // self.batch

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

    def jobs(self, epoch: int, augment: bool, start: int) -> Iterator[tuple[object, ...]]:
        """(epoch, step, side, this process's images, images to mix in, augment) of each step."""
        order = epoch_order(self._factors, np.random.default_rng((self.settings.seed, 2, epoch)))
        pool = np.sort(order)
        for step in range(start, self.steps):
            mine = slice(step * self.batch + self.rank, (step + 1) * self.batch, self.world)
            yield epoch, step, self.side(epoch, step, augment), order[mine], pool, augment

    def make(self, *job: Any) -> Batch:
        """One batch, of what `jobs` gives."""
        epoch, step, side, indices, pool, augment = job
        rng = np.random.default_rng((self.settings.seed, 3, epoch, step))
        chances = Chances.draw(rng, self.batch).part(slice(self.rank, None, self.world))
        layouts = self._layouts(indices, pool, side, chances, augment)
        if self._later:
            return self._batch(Layouts.of(layouts), layouts, indices)
        samples = [drawn(layout) for layout in layouts]
        if augment:
            samples = self._finished(samples, pool, (self.settings.seed, 4, epoch, step))
        return self._batch(np.stack([sample.image for sample in samples]), samples, indices)

    def _batch(self, images: NDArray[np.uint8] | Layouts, seen: Sequence[Layout | Sample], indices: Indices) -> Batch:
        files = [self.samples.data.images[i].path.name for i in indices]
        return Batch(images, [one.boxes for one in seen], [one.labels for one in seen], files)

    @property
    def _later(self) -> bool:
        return self._upload is not None and not self.settings.mixup and not any(self.settings.hsv)

    def _layouts(self, indices: Indices, pool: Indices, side: int, chances: Chances, augment: bool) -> list[Layout]:
        """The images, moved at random, beside others of the epoch's `pool` in mosaics; or as they are."""
        settings, pad = self.settings, self.preprocess.pad_value
        own = [self.samples[index] for index in indices.tolist()]
        if not augment:
            return plain(own, side, chances, settings.flip, pad)
        others = pool[(chances.others * len(pool)).astype(np.int64)].tolist()
        rows = [
            [sample, *map(self.samples.__getitem__, three)] if chance < settings.mosaic else [sample]
            for sample, three, chance in zip(own, others, chances.mosaic.tolist(), strict=True)
        ]
        return moved(rows, side, chances, settings, pad)

    def _finished(self, samples: list[Sample], pool: Indices, key: tuple[int, ...]) -> list[Sample]:
        """Blended with other images and coloured, where the recipe wants it."""
        settings, pad = self.settings, self.preprocess.pad_value
        if not settings.mixup and not any(settings.hsv):
            return samples
        found = []
        for place, sample in enumerate(samples):
            rng = np.random.default_rng((*key, self.rank + place * self.world))
            if rng.random() < settings.mixup:
                sample = mixup(sample, self.samples[int(pool[rng.integers(len(pool))])], rng, settings, pad)
            if any(settings.hsv):
                sample = replace(sample, image=jittered(sample.image, rng, settings.hsv))
            found.append(sample)
        return found
