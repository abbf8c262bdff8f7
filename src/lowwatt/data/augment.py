"""Augmentation of images and boxes: mosaic, affine, flip and letterbox, as one map for each source image, and mixup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.layout import Corners, Image, Layout, Matrix, Sample, drawn, places
from lowwatt.recipe import TrainSettings
from lowwatt.types import Letterbox

MIN_SIDE = 2.0  # pixels; boxes thinner than this teach nothing (YOLOX's wh_thr)
MIN_VISIBLE = 0.1  # share of a box's area that must be left after cropping (area_thr)
MAX_ASPECT = 20.0  # slivers left by cropping (ar_thr)


@dataclass(frozen=True, slots=True)
class Chances:
    """What becomes of each of n images, as uniform numbers 0…1: mosaic, angle, scale and mirror (n,), others (n, 3),
    centre, shear and move (n, 2).
    """

    mosaic: Matrix
    others: Matrix
    centre: Matrix
    angle: Matrix
    scale: Matrix
    shear: Matrix
    move: Matrix
    mirror: Matrix

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int) -> Chances:
        """For `count` images."""
        u = rng.random((count, 13))
        return cls(u[:, 0], u[:, 1:4], u[:, 4:6], u[:, 6], u[:, 7], u[:, 8:10], u[:, 10:12], u[:, 12])

    def part(self, which: slice) -> Chances:
        """For some of the images."""
        return Chances(*(getattr(self, field.name)[which] for field in fields(self)))


def plain(samples: Sequence[Sample], side: int, chances: Chances, flip: float, pad_value: int = 0) -> list[Layout]:
    """Letterbox each image to (side, side), top left, and mirror it with probability `flip`."""
    fitted = np.stack([letterbox_matrix(sample.image, side) for sample in samples])
    return _combine([[sample] for sample in samples], fitted, side, chances.mirror < flip, pad_value)


def moved(
    rows: Sequence[Sequence[Sample]], side: int, chances: Chances, settings: TrainSettings, pad_value: int = 0
) -> list[Layout]:
    """A random affine crop of (side, side), then a random mirror, for each row: of one image, letterboxed to the
    middle, or of four around a random point of a canvas of twice the side, a mosaic.
    """
    counts = [len(row) for row in rows]
    of, corner = places(counts)
    extent = np.array([sample.image.shape[1::-1] for row in rows for sample in row], np.float64)  # (width, height)
    scale = side / extent.max(1)  # that of `Letterbox.fit`, for all at once
    ends = np.stack((corner % 2 == 0, corner < 2), 1)  # at the centre of the mosaic; the others begin there
    of_four = (chances.centre[of] - 0.5) * side - ends * extent * scale[:, None]
    fitted = np.zeros((len(of), 3, 3))
    fitted[:, 0, 0] = fitted[:, 1, 1] = scale
    fitted[:, :2, 2] = np.where((np.array(counts)[of] > 1)[:, None], of_four, -side / 2)
    fitted[:, 2, 2] = 1
    maps = random_affines(side, chances, settings)[of] @ fitted
    return _combine(rows, maps, side, chances.mirror < settings.flip, pad_value)


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
    mirror = np.array([rng.random() < settings.flip])
    added = drawn(_combine([[other]], place[None], side, mirror, pad_value)[0])
    image = cv2.addWeighted(sample.image, 0.5, added.image, 0.5, 0).reshape(sample.image.shape)
    return Sample(image, np.concatenate((sample.boxes, added.boxes)), np.concatenate((sample.labels, added.labels)))


def letterbox_matrix(image: Image, side: int) -> Matrix:
    """Scale of the top-left letterbox (`Letterbox.fit`) as a 3x3 map of pixel coordinates."""
    scale = _scale(image, side)
    return np.diag((scale, scale, 1.0))


def _scale(image: Image, side: int) -> float:
    return Letterbox.fit((image.shape[0], image.shape[1]), (side, side)).scale


def random_affines(side: int, chances: Chances, settings: TrainSettings) -> Matrix:
    """Rotation, scale, shear and shift around the origin, then to the middle of (side, side): (n, 3, 3)."""
    angle = np.radians((2 * chances.angle - 1) * settings.degrees)
    low, high = settings.scale
    scale = low + (high - low) * chances.scale
    shear_x, shear_y = np.tan(np.radians((2 * chances.shear - 1) * settings.shear)).T
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    maps = np.zeros((len(angle), 3, 3))
    maps[:, 0, 0], maps[:, 0, 1] = cosine - shear_x * sine, sine + shear_x * cosine
    maps[:, 1, 0], maps[:, 1, 1] = shear_y * cosine - sine, shear_y * sine + cosine
    maps[:, :2, 2] = (0.5 + (2 * chances.move - 1) * settings.translate) * side
    maps[:, 2, 2] = 1
    return maps


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
    rows: Sequence[Sequence[Sample]], maps: Matrix, side: int, mirror: NDArray[np.bool_], pad_value: int
) -> list[Layout]:
    """The images of each row by their maps (all images, 3, 3) on one canvas (side, side), mirrored where `mirror`
    (rows,) says so, the boxes with them.
    """
    counts = [len(row) for row in rows]
    samples = [sample for row in rows for sample in row]
    boxes_of = [len(sample.boxes) for sample in samples]
    turned = np.repeat(mirror, counts)
    maps[turned, 0] *= -1
    maps[turned, 0, 2] += side
    whole = transform_boxes(np.concatenate([sample.boxes for sample in samples]), np.repeat(maps, boxes_of, 0))
    cut, keep = clip_boxes(whole, side)
    labels = np.concatenate([sample.labels for sample in samples])
    ends = np.cumsum([0, *counts])
    box_ends = np.cumsum([0, *boxes_of])[ends]
    layouts = []
    for row, of_images, of_boxes in zip(rows, pairwise(ends), pairwise(box_ends), strict=True):
        images, mine = [sample.image for sample in row], slice(*of_boxes)
        seen = keep[mine]
        layouts.append(Layout(images, maps[slice(*of_images)], side, pad_value, cut[mine][seen], labels[mine][seen]))
    return layouts
