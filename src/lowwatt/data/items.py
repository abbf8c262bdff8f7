"""Batches of images with one label each, a class or a mask: made item by item, each from (seed, epoch, item) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.batches import Batches
from lowwatt.data.cache import InMemory
from lowwatt.data.crop import area_crop, jittered, mirrored, scale_crop, shrunk, warp
from lowwatt.data.folder import ClassData
from lowwatt.data.masks import MaskData
from lowwatt.errors import ToolError
from lowwatt.letterbox import CROPPED, letterbox, read_image
from lowwatt.recipe import Recipe
from lowwatt.types import UNSCORED, Preprocess

CACHE_BYTES = 4 << 30
Image = NDArray[np.uint8]
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """images uint8 (N, side, side, C); targets float32 (N, classes), which sum to 1; the images' files."""

    images: Image
    targets: NDArray[np.float32]
    files: list[str]


@dataclass(frozen=True, slots=True)
class MaskBatch:
    """images uint8 (N, side, side, C); masks uint8 (N, side, side), UNSCORED where no class is; the images' files."""

    images: Image
    masks: NDArray[np.uint8]
    files: list[str]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What `decode` gives, by index."""

    decode: Callable[[int], tuple[Image, ...]]

    def __getitem__(self, index: int) -> tuple[Image, ...]:
        return self.decode(index)


class ItemLoader(Batches[B]):
    """Batches of items that are made one by one."""

    def __init__(self, data: Any, recipe: Recipe, preprocess: Preprocess, rank: int = 0, world: int = 1) -> None:
        super().__init__(recipe.train, len(data), data.source, rank, world)
        self.data, self.recipe, self.preprocess, self.side = data, recipe, preprocess, preprocess.size[0]
        self._kept = InMemory(_Decoded(self.decode), CACHE_BYTES)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return len(self.data) // self.batch

    def pixels(self, augment: bool) -> float:
        """Input pixels of an epoch."""
        return float(self.steps * self.batch * self.side**2)

    def jobs(self, epoch: int, augment: bool, start: int) -> Iterator[tuple[object, ...]]:
        """(epoch, indices of the items, augment) of each step."""
        order = np.random.default_rng((self.settings.seed, 2, epoch)).permutation(len(self.data))
        for step in range(start, self.steps):
            mine = order[step * self.batch + self.rank : (step + 1) * self.batch : self.world]
            yield epoch, mine.tolist(), augment

    def make(self, *job: Any) -> B:
        """One batch of (epoch, indices, augment)."""
        epoch, indices, augment = job
        items = []
        for index in indices:
            rng = np.random.default_rng((self.settings.seed, 3, epoch, index))
            items.append(self.augmented(index, rng) if augment else self.plain(index, rng))
        return self.together(items, [self.data.images[index].path.name for index in indices])

    def decoded(self, index: int) -> tuple[Image, ...]:
        """What `decode` gives, kept in memory up to CACHE_BYTES."""
        return self._kept[index]

    def read(self, index: int) -> Image:
        """Pixels of an image, as its file has them."""
        return read_image(self.data.images[index].path, self.preprocess.channels)

    @abstractmethod
    def decode(self, index: int) -> tuple[Image, ...]:
        """The arrays of an item from which all its crops are made."""

    @abstractmethod
    def plain(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Image and label as at the test, but for a mirror."""

    @abstractmethod
    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Image and label as the recipe wants them."""

    @abstractmethod
    def together(self, items: Sequence[tuple[Any, Any]], files: list[str]) -> B:
        """The batch."""


class ClassLoader(ItemLoader[ClassBatch]):
    """Random crops with one class each; with mixup and cutmix some have a part of another image and of its class."""

    data: ClassData

    def decode(self, index: int) -> tuple[Image]:
        """The image, no larger than the test needs it."""
        return (shrunk(self.read(index), round(self.side / CROPPED)),)

    def plain(self, index: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        """As the classifier sees it."""
        image, _ = letterbox(self.read(index), self.preprocess)
        if rng.random() < self.settings.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        return image, self._target(index)

    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        """Cropped, mirrored, jittered, perhaps blended."""
        wanted, (image, target) = self.recipe.classification, self._cropped(index, rng)
        chance = rng.random()
        if chance >= wanted.mixup + wanted.cutmix:
            return image, target
        other, other_target = self._cropped(int(rng.integers(len(self.data))), rng)
        if chance < wanted.cutmix:
            image, share = cut_into(image, other, rng)
        else:
            share = float(rng.beta(0.2, 0.2))
            image = np.rint(image * np.float32(share) + other * np.float32(1 - share)).astype(np.uint8)
        return image, (target * share + other_target * (1 - share)).astype(np.float32)

    def _cropped(self, index: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        (image,), wanted = self.decoded(index), self.recipe.classification
        matrix = area_crop(image.shape[0], image.shape[1], self.side, rng, wanted.crop)
        if rng.random() < self.settings.flip:
            matrix = mirrored(matrix, self.side)
        return jittered(warp(image, matrix, self.side), rng, wanted.jitter), self._target(index)

    def _target(self, index: int) -> NDArray[np.float32]:
        target = np.zeros(len(self.data.labels), np.float32)
        target[self.data.images[index].label] = 1
        return target

    def together(self, items: Sequence[tuple[Any, Any]], files: list[str]) -> ClassBatch:
        """Stacked."""
        return ClassBatch(np.stack([i for i, _ in items]), np.stack([t for _, t in items]), files)


def cut_into(image: Image, other: Image, rng: np.random.Generator) -> tuple[Image, float]:
    """A copy with a random piece of `other` in its place, and the share of the image that is left (CutMix, 2019)."""
    height, width = image.shape[:2]
    size = np.sqrt(1 - rng.random())
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    top, bottom = (int(np.clip(y + d * size * height / 2, 0, height)) for d in (-1, 1))
    left, right = (int(np.clip(x + d * size * width / 2, 0, width)) for d in (-1, 1))
    mixed = image.copy()
    mixed[top:bottom, left:right] = other[top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


class MaskLoader(ItemLoader[MaskBatch]):
    """Random crops at random scales, with their masks."""

    data: MaskData

    def decode(self, index: int) -> tuple[Image, Image]:
        """Image and mask, no larger than the largest scale needs them."""
        image, mask = self.read(index), self.data.mask(index)
        if image.shape[:2] != mask.shape:
            why = f"the image is {image.shape[:2]}, the mask {mask.shape}"
            raise ToolError("an image and its mask differ in size", where=str(self.data.images[index].mask), why=why)
        most = round(self.side * max(1.0, self.settings.scale[1]))
        return shrunk(image, most), shrunk(mask, most, exact=True)

    def plain(self, index: int, rng: np.random.Generator) -> tuple[Image, Image]:
        """As the segmenter sees it: letterboxed to the top left."""
        return self._warped(index, rng, (1.0, 1.0), placed=False)

    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Image, Image]:
        """Scaled, cropped, mirrored, jittered."""
        image, mask = self._warped(index, rng, self.settings.scale, placed=True)
        return jittered(image, rng, self.recipe.segmentation.jitter), mask

    def _warped(
        self, index: int, rng: np.random.Generator, scale: tuple[float, float], placed: bool
    ) -> tuple[Image, Image]:
        image, mask = self.decoded(index)
        matrix = scale_crop(image.shape[0], image.shape[1], self.side, rng, scale)
        if not placed:
            matrix[:2, 2] = 0
        if rng.random() < self.settings.flip:
            matrix = mirrored(matrix, self.side)
        pad = self.preprocess.pad_value
        return warp(image, matrix, self.side, pad), warp(mask, matrix, self.side, UNSCORED, exact=True)

    def together(self, items: Sequence[tuple[Any, Any]], files: list[str]) -> MaskBatch:
        """Stacked."""
        return MaskBatch(np.stack([i for i, _ in items]), np.stack([m for _, m in items]), files)
