"""Class-balanced epochs: images of rare classes come more than once (repeat-factor sampling, Gupta et al., 2019)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.coco import CocoData


def repeat_factors(data: CocoData, threshold: float) -> NDArray[np.float64]:
    """How often each image comes in an epoch, on average; 1 or more.

    A class on a share f of the images has the factor max(1, √(threshold / f)); an image has that of its rarest class.
    """
    factors = np.ones(len(data))
    if threshold:
        present = [np.unique(boxes.label[~boxes.crowd]) for boxes in data.boxes]
        share = np.bincount(np.concatenate(present), minlength=len(data.labels)) / len(data)
        with np.errstate(divide="ignore"):
            of_class = np.maximum(1.0, np.sqrt(threshold / share))
        factors = np.array([of_class[labels].max(initial=1.0) for labels in present])
    return factors


def epoch_length(factors: NDArray[np.float64]) -> int:
    """Images of an epoch, repetitions counted; the same in every epoch."""
    return round(float(factors.sum()))


def epoch_order(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of an epoch's images in random order: a permutation where all factors are 1.

    An image comes its factor's number of times, rounded up or down at random such that the length is always the same:
    the images lie on a line, each as long as its factor, and equally spaced points choose among them.
    """
    order = rng.permutation(len(factors))
    if not (factors > 1).any():
        return order
    length = epoch_length(factors)
    ends = np.cumsum(factors[order])
    points = (np.arange(length) + rng.random()) * (ends[-1] / length)
    return rng.permutation(order[np.searchsorted(ends[:-1], points, side="right")])
