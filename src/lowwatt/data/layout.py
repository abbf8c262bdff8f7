"""Which images lie where in an augmented one: known before a pixel is moved, and drawn then, here or on a GPU.

Images stay uint8 (H, W, C) all the way; boxes are float32 (N, 4) corners in pixels. The chain of YOLOX (paste four
images on a double-size canvas, transform the canvas, crop) is one affine map per image, so each pixel is interpolated
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Corners = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image (H, W, C) uint8 with its boxes (N, 4) float32 and labels (N,) int64."""

    image: Image
    boxes: Corners
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """An input (side, side) before it is drawn: images (H, W, C) uint8, one upon the other, on `pad_value`.

    `maps` (N, 3, 3) take pixel edges of each image to those of the input; boxes (n, 4) and labels (n,) are what is then
    to be seen.
    """

    images: Sequence[Image]
    maps: Matrix
    side: int
    pad_value: int
    boxes: Corners
    labels: NDArray[np.int64]


def drawn(layout: Layout) -> Sample:
    """The input's pixels, with what is to be seen."""
    side, channels = layout.side, layout.images[0].shape[2]
    canvas = np.full((side, side, channels), layout.pad_value, np.uint8)
    for image, matrix in zip(layout.images, layout.maps, strict=True):
        warp(image, matrix, canvas)
    return Sample(canvas, layout.boxes, layout.labels)


def warp(image: Image, matrix: Matrix, canvas: Image) -> None:
    """Draw `image` into `canvas`, of which only the part that it reaches is looked at.

    The matrix maps pixel edges; OpenCV maps pixel centres, half a pixel away.
    """
    import cv2

    (a, b, x), (c, d, y), _ = matrix.tolist()
    left, right = _reach(a, b, x, image, canvas.shape[1])
    top, bottom = _reach(c, d, y, image, canvas.shape[0])
    if left >= right or top >= bottom:
        return
    centres = np.array(((a, b, _between_centres(a, b, x) - left), (c, d, _between_centres(c, d, y) - top)))
    size, part = (right - left, bottom - top), canvas[top:bottom, left:right]
    cv2.warpAffine(image, centres, size, dst=part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def _reach(a: float, b: float, start: float, image: Image, side: int) -> tuple[int, int]:
    """First and last pixel (exclusive) of an axis of the canvas that an image reaches, its blended edge included."""
    height, width = image.shape[:2]
    middle = start + (a * width + b * height) / 2
    half = (abs(a) * (width + 1) + abs(b) * (height + 1)) / 2
    return max(0, math.floor(middle - half)), min(side, math.ceil(middle + half))


def _between_centres(a: Any, b: Any, start: Any) -> Any:
    """Shift of an axis, (a, b, start) between pixel edges, as it is between pixel centres; numbers or arrays."""
    return start + (a + b - 1) / 2


def places(counts: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of all things of some rows, one behind the other, `counts` in each: the row, and the place in it.

    >>> [found.tolist() for found in places([1, 2])]
    [[0, 1, 1], [0, 0, 1]]
    """
    return np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(count) for count in counts])


@dataclass(frozen=True, slots=True)
class Layouts:
    """The inputs of a batch, packed for a device that draws them (`lowwatt.training.draw`).

    pixels uint8 (P,): all images behind each other, each (H, W, C). By input and image, rows with fewer images filled
    up with empty ones: start int64 (B, N) of its pixels, size int32 (B, N, 2) as (height, width), and back float32
    (B, N, 2, 3), which takes pixel centres of the input to those of the image.
    """

    pixels: Image
    start: NDArray[np.int64]
    size: NDArray[np.int32]
    back: NDArray[np.float32]
    side: int
    channels: int
    pad_value: int

    @classmethod
    def of(cls, layouts: Sequence[Layout]) -> Layouts:
        """Of inputs of one side."""
        counts = [len(layout.images) for layout in layouts]
        shape, place = (len(layouts), max(counts)), places(counts)
        images = [image for layout in layouts for image in layout.images]
        start, size = np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32)
        back = np.zeros((*shape, 2, 3), np.float32)
        rows = np.linalg.inv(np.concatenate([layout.maps for layout in layouts]))[:, :2]
        rows[:, :, 2] = _between_centres(*np.moveaxis(rows, 2, 0))
        start[place] = np.cumsum([0, *(image.size for image in images[:-1])])
        size[place] = [image.shape[:2] for image in images]
        back[place] = rows
        first = layouts[0]
        pixels = np.concatenate([image.reshape(-1) for image in images])
        return cls(pixels, start, size, back, first.side, images[0].shape[2], first.pad_value)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, side, side, C)."""
        return len(self), self.side, self.side, self.channels
