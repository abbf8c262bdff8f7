"""Random colours, or tones of gray, by tables of 256 values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_HUES = 180  # OpenCV's circle of 8-bit hues
_VALUES = np.arange(256, dtype=np.float64)


def jittered(image: Image, rng: np.random.Generator, amount: tuple[float, float, float]) -> Image:
    """The image (H, W, C) uint8 with other hue, saturation and value; `amount` is the most that each may change.

    Colour (BGR): the hue moves by a share of its circle, the others are multiplied by 1 ± amount. Gray: the second is
    the exponent of the tone curve, which changes contrast, the third the brightness. Black, and so the winner's
    padding, stays black.
    """
    import cv2

    hue, contrast, brightness = rng.uniform(-1, 1, 3) * amount
    if image.shape[2] == 1:
        toned: Image = cv2.LUT(image, _table(255 * (_VALUES / 255) ** (1 + contrast) * (1 + brightness)))
        return toned.reshape(image.shape)
    tables = [
        _table((_VALUES + hue * _HUES) % _HUES),
        _table(_VALUES * (1 + contrast)),
        _table(_VALUES * (1 + brightness)),
    ]
    parts = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    coloured: Image = cv2.cvtColor(cv2.LUT(parts, np.stack(tables, 1)[:, None]), cv2.COLOR_HSV2BGR)
    return coloured


def _table(values: NDArray[np.float64]) -> Image:
    table: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return table
