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
    return _combine([sample], [letterbox_matrix(sample.image, side)], side, rng, flip, pad_value)


def affine(sample: Sample, side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0) -> Sample:
    """Letterbox to the middle of (side, side), then a random affine map, then a random mirror."""
    place = _shift(-side / 2, -side / 2) @ letterbox_matrix(sample.image, side)
    return _combine([sample], [random_affine(side, rng, settings) @ place], side, rng, settings.flip, pad_value)


def mosaic(
    samples: Sequence[Sample], side: int, rng: np.random.Generator, settings: TrainSettings, pad_value: int = 0
) -> Sample:
    """Four images around a random point of a canvas of twice the side, then a random affine crop of (side, side)."""
    centre_x, centre_y = rng.uniform(0.5 * side, 1.5 * side, 2)
    crop = random_affine(side, rng, settings) @ _shift(-side, -side)
    matrices = []
    for corner, sample in enumerate(samples):
        fit = letterbox_matrix(sample.image, side)
        height, width = sample.image.shape[0] * fit[1, 1], sample.image.shape[1] * fit[0, 0]
        left = centre_x - (width if corner in (0, 2) else 0)
        top = centre_y - (height if corner in (0, 1) else 0)
        matrices.append(crop @ _shift(left, top) @ fit)
    return _combine(samples, matrices, side, rng, settings.flip, pad_value)


def letterbox_matrix(image: Image, side: int) -> Matrix:
    """Scale of the top-left letterbox (`Letterbox.fit`) as a 3x3 map of pixel coordinates."""
    scale = Letterbox.fit((image.shape[0], image.shape[1]), (side, side)).scale
    return np.diag((scale, scale, 1.0))


def random_affine(side: int, rng: np.random.Generator, settings: TrainSettings) -> Matrix:
    """Rotation, scale, shear and shift around the origin, then to the middle of (side, side)."""
    angle = math.radians(rng.uniform(-settings.degrees, settings.degrees))
    scale = rng.uniform(*settings.scale)
    shear_x, shear_y = np.tan(np.radians(rng.uniform(-settings.shear, settings.shear, 2)))
    move_x, move_y = rng.uniform(0.5 - settings.translate, 0.5 + settings.translate, 2) * side
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    rotate = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    skew = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
    return np.asarray(_shift(move_x, move_y) @ skew @ rotate)


def transform_boxes(boxes: Corners, matrix: Matrix) -> Corners:
    """Bounding boxes of the transformed corners, not clipped."""
    left, top, right, bottom = boxes.astype(np.float64).T
    xs, ys = np.stack((left, right, left, right)), np.stack((top, top, bottom, bottom))
    new_x = matrix[0, 0] * xs + matrix[0, 1] * ys + matrix[0, 2]
    new_y = matrix[1, 0] * xs + matrix[1, 1] * ys + matrix[1, 2]
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
    matrices: Sequence[Matrix],
    side: int,
    rng: np.random.Generator,
    flip: float,
    pad_value: int,
) -> Sample:
    """Warp each image by its matrix onto one canvas (side, side), the boxes with it."""
    mirror = np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]]) if rng.random() < flip else np.eye(3)
    canvas = np.full((side, side, samples[0].image.shape[2]), pad_value, np.uint8)
    boxes, labels = [], []
    for sample, matrix in zip(samples, matrices, strict=True):
        matrix = mirror @ matrix
        _warp(sample.image, matrix, canvas)
        cut, keep = clip_boxes(transform_boxes(sample.boxes, matrix), side)
        boxes.append(cut[keep])
        labels.append(sample.labels[keep])
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels))


def _warp(image: Image, matrix: Matrix, canvas: Image) -> None:
    """Draw `image` into `canvas`. The matrix maps pixel edges; OpenCV maps pixel centres, half a pixel away."""
    import cv2

    centres = _shift(-0.5, -0.5) @ matrix @ _shift(0.5, 0.5)
    size = (canvas.shape[1], canvas.shape[0])
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
    cv2.warpAffine(image, centres[:2], size, dst=canvas, flags=flags, borderMode=border)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
