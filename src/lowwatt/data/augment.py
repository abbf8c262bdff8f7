"""Augmentation of images and boxes: mosaic, affine, flip and letterbox, as one map for each source image, and mixup."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.layout import Corners, Image, Layout, Matrix, Sample, drawn
from lowwatt.recipe import TrainSettings
from lowwatt.types import Letterbox

MIN_SIDE = 2.0  # pixels; boxes thinner than this teach nothing (YOLOX's wh_thr)
MIN_VISIBLE = 0.1  # share of a box's area that must be left after cropping (area_thr)
MAX_ASPECT = 20.0  # slivers left by cropping (ar_thr)


def plain(sample: Sample, side: int, rng: np.random.Generator, flip: float, pad_value: int = 0) -> Layout:
    """Letterbox to (side, side), top left, and mirror with probability `flip`."""
    return _combine([sample], letterbox_matrix(sample.image, side)[None], side, rng, flip, pad_value)


def affine(sample: Sample, side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0) -> Layout:
    """Letterbox to the middle of (side, side), then a random affine map, then a random mirror."""
    place = _shift(-side / 2, -side / 2) @ letterbox_matrix(sample.image, side)
    return _combine([sample], (random_affine(side, rng, settings) @ place)[None], side, rng, settings.flip, pad_value)


def mosaic(
    samples: Sequence[Sample], side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0
) -> Layout:
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
    added = drawn(_combine([other], place[None], side, rng, settings.flip, pad_value))
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
    linear, shift = matrix[..., :2, :2], matrix[..., :2, 2]
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    centre = (linear @ ((low + high) / 2)[..., None])[..., 0] + shift
    half = (np.abs(linear) @ ((high - low) / 2)[..., None])[..., 0]
    return np.concatenate((centre - half, centre + half), 1).astype(np.float32)


def clip_boxes(boxes: Corners, side: int) -> tuple[Corners, NDArray[np.bool_]]:
    """Boxes cut to (side, side), and which of them are worth keeping (size, visible share, aspect)."""
    cut = np.clip(boxes, 0, side)
    width, height = cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1]
    before = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    aspect = np.maximum(width / np.maximum(height, 1e-6), height / np.maximum(width, 1e-6))
    visible = width * height > MIN_VISIBLE * before
    return cut, (width > MIN_SIDE) & (height > MIN_SIDE) & visible & (aspect < MAX_ASPECT)


def _combine(
    samples: Sequence[Sample], matrices: Matrix, side: int, rng: np.random.Generator, flip: float, pad_value: int
) -> Layout:
    """Each image by its matrix (N, 3, 3) on one canvas (side, side), mirrored or not, the boxes with it."""
    maps = np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]]) @ matrices if rng.random() < flip else matrices
    of_box = np.repeat(maps, [len(sample.boxes) for sample in samples], 0)
    boxes = np.concatenate([sample.boxes for sample in samples])
    cut, keep = clip_boxes(transform_boxes(boxes, of_box), side)
    labels = np.concatenate([sample.labels for sample in samples])[keep]
    return Layout([sample.image for sample in samples], maps, side, pad_value, cut[keep], labels)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
