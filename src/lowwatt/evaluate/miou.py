"""Mean intersection over union of maps of classes, from one table of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MIoU:
    """Mean IoU over the classes that occur, share of pixels that are right, IoU by class name; 0…1.

    -1 for a class that is neither there nor found, as AP has it.
    """

    miou: float
    pixel_accuracy: float
    per_class: dict[str, float] = field(default_factory=dict)


def counted(truth: NDArray[np.uint8], found: NDArray[np.uint8], classes: int) -> Counts:
    """Pixels by true class (row) and found class (column); those whose true class is no class do not count.

    >>> counted(np.uint8([0, 0, 1, 255]), np.uint8([0, 1, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    scored = truth < classes
    pairs = truth[scored].astype(np.int64) * classes + found[scored]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def mean_iou(counts: Counts, labels: Sequence[str]) -> MIoU:
    """From the sum of `counted` over the images of a split.

    >>> mean_iou(np.array([[1, 1], [0, 1]]), ("sky", "road"))
    MIoU(miou=0.5, pixel_accuracy=0.6666666666666666, per_class={'sky': 0.5, 'road': 0.5})
    """
    right = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - right
    each = np.where(union > 0, right / np.maximum(union, 1), -1.0)
    known = each[union > 0]
    mean = float(known.mean()) if known.size else -1.0
    return MIoU(mean, float(right.sum() / max(1, counts.sum())), dict(zip(labels, each.tolist(), strict=True)))
