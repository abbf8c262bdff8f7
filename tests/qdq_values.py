"""Shapes, formats and integers that the tests of QDQ files share."""

from __future__ import annotations

import numpy as np

from lowwatt.types import Array, QuantParams

SHAPE = (1, 7, 6, 4)


def pot(fix_point: int) -> QuantParams:
    return QuantParams.power_of_two(fix_point)


def integers(*shape: int, seed: int = 0) -> Array:
    """Random int8 values with the extremes among them."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([-128, 127], shape), drawn).astype(np.int8)
