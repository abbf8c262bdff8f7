"""Batches for training: decoded images kept in memory, augmented deterministically by (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.augment import affine, mixup, mosaic, plain
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
        """(epoch, side, this process's images, how often each came before, images to mix in, augment) of each step."""
        order = epoch_order(self._factors, np.random.default_rng((self.settings.seed, 2, epoch)))
        before, pool = _repetitions(order), np.sort(order)
        for step in range(start, self.steps):
            mine = slice(step * self.batch + self.rank, (step + 1) * self.batch, self.world)
            yield epoch, self.side(epoch, step, augment), order[mine], before[mine], pool, augment

    def make(self, *job: Any) -> Batch:
        """One batch, of what `jobs` gives."""
        epoch, side, indices, before, pool, augment = job
        keys = [(index, *((times,) if times else ())) for index, times in zip(indices.tolist(), before, strict=True)]
        rngs = [np.random.default_rng((self.settings.seed, 3, epoch, *key)) for key in keys]
        layouts = [self._layout(key[0], pool, side, rng, augment) for key, rng in zip(keys, rngs, strict=True)]
        images: NDArray[np.uint8] | Layouts
        seen: Sequence[Layout | Sample] = layouts
        if self._later:
            images = Layouts.of(layouts)
        else:
            samples = [drawn(layout) for layout in layouts]
            if augment:
                samples = [self._finished(sample, pool, rng) for sample, rng in zip(samples, rngs, strict=True)]
            images, seen = np.stack([sample.image for sample in samples]), samples
        files = [self.samples.data.images[i].path.name for i in indices]
        return Batch(images, [one.boxes for one in seen], [one.labels for one in seen], files)

    @property
    def _later(self) -> bool:
        return self._upload is not None and not self.settings.mixup and not any(self.settings.hsv)

    def _layout(self, index: int, pool: Indices, side: int, rng: np.random.Generator, augment: bool) -> Layout:
        """The image, moved at random, beside others of the epoch's `pool` in a mosaic; or as it is."""
        settings, pad = self.settings, self.preprocess.pad_value
        if not augment:
            return plain(self.samples[index], side, rng, settings.flip, pad)
        if rng.random() < settings.mosaic:
            four = [index, *pool[rng.integers(0, len(pool), 3)].tolist()]
            return mosaic([self.samples[i] for i in four], side, rng, settings, pad)
        return affine(self.samples[index], side, rng, settings, pad)

    def _finished(self, sample: Sample, pool: Indices, rng: np.random.Generator) -> Sample:
        """Blended with another image and coloured, where the recipe wants it."""
        settings, pad = self.settings, self.preprocess.pad_value
        if settings.mixup and rng.random() < settings.mixup:
            sample = mixup(sample, self.samples[int(pool[rng.integers(len(pool))])], rng, settings, pad)
        return replace(sample, image=jittered(sample.image, rng, settings.hsv)) if any(settings.hsv) else sample


def _repetitions(order: Indices) -> Indices:
    """For each place of `order`, how often its index stood there before.

    >>> _repetitions(np.array([2, 0, 2, 1, 2])).tolist()
    [0, 0, 1, 0, 2]
    """
    sorted_places = np.argsort(order, kind="stable")
    values = order[sorted_places]
    first = np.searchsorted(values, values)
    before = np.empty_like(order)
    before[sorted_places] = np.arange(len(order)) - first
    return before
