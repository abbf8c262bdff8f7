"""Top-k accuracy of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class TopK:
    """Share of images, 0…1, whose class is the likeliest, or among the five likeliest."""

    top1: float
    top5: float


def top_k(ranks: Sequence[int] | NDArray[np.int64]) -> TopK:
    """Accuracy from the rank of each image's class.

    >>> top_k([0, 3, 9, 0])
    TopK(top1=0.5, top5=0.75)
    """
    places = np.asarray(ranks)
    return TopK(float((places < 1).mean()), float((places < 5).mean()))


def rank_of(scores: Array, label: int) -> int:
    """How many classes are likelier than the right one; of equal ones the lower index counts as likelier.

    >>> rank_of(np.array([0.1, 0.7, 0.7]), 2)
    1
    """
    better = int((scores > scores[label]).sum())
    return better + int((scores[:label] == scores[label]).sum())
