"""Augmentation of images and boxes: mosaic, affine, flip and letterbox, as one warp for each source image.

Images stay uint8 (H, W, C) all the way; boxes are float32 (N, 4) corners in pixels. The chain of YOLOX (paste four
images on a double-size canvas, transform the canvas, crop) is one affine map per image, so each pixel is interpolated
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.recipe import TrainSettings
from lowwatt.types import Letterbox

Image = NDArray[np.uint8]
Corners = NDArray[np.float32]
Matrix = NDArray[np.float64]

MIN_SIDE = 2.0  # pixels; boxes thinner than this teach nothing (YOLOX's wh_thr)
MIN_VISIBLE = 0.1  # share of a box's area that must be left after cropping (area_thr)
MAX_ASPECT = 20.0  # slivers left by cropping (ar_thr)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image (H, W, C) uint8 with its boxes (N, 4) float32 and labels (N,) int64."""

    image: Image
    boxes: Corners
    labels: NDArray[np.int64]


def plain(sample: Sample, side: int, rng: np.random.Generator, flip: float, pad_value: int = 0) -> Sample:
    """Letterbox to (side, side), top left, and mirror with probability `flip`."""
    return _combine([sample], letterbox_matrix(sample.image, side)[None], side, rng, flip, pad_value)


def affine(sample: Sample, side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0) -> Sample:
    """Letterbox to the middle of (side, side), then a random affine map, then a random mirror."""
    place = _shift(-side / 2, -side / 2) @ letterbox_matrix(sample.image, side)
    return _combine([sample], (random_affine(side, rng, settings) @ place)[None], side, rng, settings.flip, pad_value)


def mosaic(
    samples: Sequence[Sample], side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0
) -> Sample:
    """Four images around a random point of a canvas of twice the side, then a random affine crop of (side, side)."""
    centre_x, centre_y = rng.uniform(0.5 * side, 1.5 * side, 2)
    crop = random_affine(side, rng, settings) @ _shift(-side, -side)
    places = []
    for corner, sample in enumerate(samples):
        scale = _scale(sample.image, side)
        left = centre_x - (sample.image.shape[1] * scale if corner in (0, 2) else 0)
        top = centre_y - (sample.image.shape[0] * scale if corner in (0, 1) else 0)
        places.append(((scale, 0, left), (0, scale, top), (0, 0, 1)))
    return _combine(samples, crop @ np.array(places), side, rng, settings.flip, pad_value)


def mixup(
    sample: Sample, other: Sample, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0
) -> Sample:
    """Half of each, with the boxes of both (YOLOX's, whatever their shares).

    `other` is letterboxed to the same side, scaled by `settings.mixup_scale`, put at a random place, or cut at one
    where it is larger, and mirrored with probability `settings.flip`.
    """
    import cv2

    side = len(sample.image)
    scale = _scale(other.image, side) * rng.uniform(*settings.mixup_scale)
    spare = [side - extent * scale for extent in (other.image.shape[1], other.image.shape[0])]
    left, top = (rng.uniform(min(0.0, room), max(0.0, room)) for room in spare)
    place = np.array([[scale, 0, left], [0, scale, top], [0, 0, 1]])
    added = _combine([other], place[None], side, rng, settings.flip, pad_value)
    image = cv2.addWeighted(sample.image, 0.5, added.image, 0.5, 0).reshape(sample.image.shape)
    return Sample(image, np.concatenate((sample.boxes, added.boxes)), np.concatenate((sample.labels, added.labels)))


def letterbox_matrix(image: Image, side: int) -> Matrix:
    """Scale of the top-left letterbox (`Letterbox.fit`) as a 3x3 map of pixel coordinates."""
    scale = _scale(image, side)
    return np.diag((scale, scale, 1.0))


def _scale(image: Image, side: int) -> float:
    return Letterbox.fit((image.shape[0], image.shape[1]), (side, side)).scale


def random_affine(side: int, rng: np.random.Generator, settings: TrainSettings) -> Matrix:
    """Rotation, scale, shear and shift around the origin, then to the middle of (side, side)."""
    angle = math.radians(rng.uniform(-settings.degrees, settings.degrees))
    scale = rng.uniform(*settings.scale)
    shear_x, shear_y = (math.tan(math.radians(a)) for a in rng.uniform(-settings.shear, settings.shear, 2))
    move_x, move_y = rng.uniform(0.5 - settings.translate, 0.5 + settings.translate, 2) * side
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    rotate = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    skew = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
    return np.asarray(_shift(move_x, move_y) @ skew @ rotate)


def transform_boxes(boxes: Corners, matrix: Matrix) -> Corners:
    """Bounding boxes (N, 4) of the transformed corners, not clipped; one matrix (3, 3) for all or (N, 3, 3)."""
    left, top, right, bottom = boxes.astype(np.float64).T
    xs, ys = np.stack((left, right, left, right)), np.stack((top, top, bottom, bottom))
    new_x = matrix[..., 0, 0] * xs + matrix[..., 0, 1] * ys + matrix[..., 0, 2]
    new_y = matrix[..., 1, 0] * xs + matrix[..., 1, 1] * ys + matrix[..., 1, 2]
    return np.stack((new_x.min(0), new_y.min(0), new_x.max(0), new_y.max(0)), 1).astype(np.float32)


def clip_boxes(boxes: Corners, side: int) -> tuple[Corners, NDArray[np.bool_]]:
    """Boxes cut to (side, side), and which of them are worth keeping (size, visible share, aspect)."""
    cut = np.clip(boxes, 0, side)
    width, height = cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1]
    before = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    aspect = np.maximum(width / np.maximum(height, 1e-6), height / np.maximum(width, 1e-6))
    visible = width * height > MIN_VISIBLE * before
    return cut, (width > MIN_SIDE) & (height > MIN_SIDE) & visible & (aspect < MAX_ASPECT)


def _combine(
    samples: Sequence[Sample],
    matrices: Matrix,
    side: int,
    rng: np.random.Generator,
    flip: float,
    pad_value: int,
) -> Sample:
    """Warp each image by its matrix (N, 3, 3) onto one canvas (side, side), the boxes with it."""
    mirror = np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]]) if rng.random() < flip else np.eye(3)
    maps = mirror @ matrices
    canvas = np.full((side, side, samples[0].image.shape[2]), pad_value, np.uint8)
    for sample, matrix in zip(samples, maps, strict=True):
        _warp(sample.image, matrix, canvas)
    of_box = np.repeat(maps, [len(sample.boxes) for sample in samples], 0)
    boxes = np.concatenate([sample.boxes for sample in samples])
    cut, keep = clip_boxes(transform_boxes(boxes, of_box), side)
    return Sample(canvas, cut[keep], np.concatenate([sample.labels for sample in samples])[keep])


def _warp(image: Image, matrix: Matrix, canvas: Image) -> None:
    """Draw `image` into `canvas`, of which only the part that it reaches is looked at.

    The matrix maps pixel edges; OpenCV maps pixel centres, half a pixel away.
    """
    import cv2

    (a, b, x), (c, d, y), _ = matrix.tolist()
    left, right = _reach(a, b, x, image, canvas.shape[1])
    top, bottom = _reach(c, d, y, image, canvas.shape[0])
    if left >= right or top >= bottom:
        return
    centres = np.array(((a, b, x + (a + b - 1) / 2 - left), (c, d, y + (c + d - 1) / 2 - top)))
    size, part = (right - left, bottom - top), canvas[top:bottom, left:right]
    cv2.warpAffine(image, centres, size, dst=part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def _reach(a: float, b: float, start: float, image: Image, side: int) -> tuple[int, int]:
    """First and last pixel (exclusive) of an axis of the canvas that an image reaches, its blended edge included."""
    height, width = image.shape[:2]
    middle = start + (a * width + b * height) / 2
    half = (abs(a) * (width + 1) + abs(b) * (height + 1)) / 2
    return max(0, math.floor(middle - half)), min(side, math.ceil(middle + half))


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
