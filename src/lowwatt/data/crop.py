"""Random crops of whole images, with or without their masks: one warp each; and the jitter of their colours.

Images are uint8 (H, W, C), masks uint8 (H, W). A crop is a 3x3 map from the edges of the source's pixels to those of
the square input.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_ASPECTS = 3 / 4, 4 / 3
_GRAY = np.array([0.114, 0.587, 0.299], np.float32)
"""Luminance of blue, green and red (ITU-R BT.601)."""


def area_crop(height: int, width: int, side: int, rng: np.random.Generator, share: tuple[float, float]) -> Matrix:
    """A random part of `share` of the area and of an aspect from 3:4 to 4:3, on the whole input (Inception's crop)."""
    area = rng.uniform(*share) * height * width
    aspect = math.exp(rng.uniform(math.log(_ASPECTS[0]), math.log(_ASPECTS[1])))
    rows, columns = min(height, math.sqrt(area / aspect)), min(width, math.sqrt(area * aspect))
    top, left = rng.uniform(0, height - rows), rng.uniform(0, width - columns)
    x, y = side / columns, side / rows
    return np.array([[x, 0, -left * x], [0, y, -top * y], [0, 0, 1]])


def scale_crop(height: int, width: int, side: int, rng: np.random.Generator, scale: tuple[float, float]) -> Matrix:
    """The image at a random scale, 1 as it just fits; a random place in it, or of it where it is smaller."""
    factor = rng.uniform(*scale) * min(side / height, side / width)
    spare_x, spare_y = side - width * factor, side - height * factor
    x, y = (rng.uniform(min(0.0, spare), max(0.0, spare)) for spare in (spare_x, spare_y))
    return np.array([[factor, 0, x], [0, factor, y], [0, 0, 1]])


def mirrored(matrix: Matrix, side: int) -> Matrix:
    """The same crop, left and right exchanged."""
    return np.asarray(np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]]) @ matrix)


def warp(image: Image, matrix: Matrix, side: int, border: int = 0, exact: bool = False) -> Image:
    """The crop (side, side[, C]); what lies outside is `border`. `exact` gives values of the image only: for masks."""
    import cv2

    before, behind = (np.array([[1.0, 0, d], [0, 1, d], [0, 0, 1]]) for d in (-0.5, 0.5))
    centres = (before @ matrix @ behind)[:2]  # OpenCV maps centres of pixels
    flags = cv2.INTER_NEAREST if exact else cv2.INTER_LINEAR
    value = (border,) * 3
    out = cv2.warpAffine(image, centres, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=value)
    shaped: Image = out.reshape(side, side, *image.shape[2:])
    return shaped


def shrunk(image: Image, side: int, exact: bool = False) -> Image:
    """The image scaled so that its shorter side is at most `side`: no smaller crop needs more."""
    import cv2

    height, width = image.shape[:2]
    if min(height, width) <= side:
        return image
    factor = side / min(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_AREA)
    shaped: Image = small.reshape(*size[::-1], *image.shape[2:])
    return shaped


def jittered(image: Image, rng: np.random.Generator, amount: float) -> Image:
    """Brightness, contrast and, in colour images, saturation times 1 ± amount each."""
    if not amount:
        return image
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3).astype(np.float32)
    values = image.astype(np.float32) * brightness
    gray = values @ _GRAY if image.shape[2] == 3 else values[..., 0]
    if image.shape[2] == 3:
        values = gray[..., None] + (values - gray[..., None]) * saturation
    values = gray.mean() + (values - gray.mean()) * contrast
    jittered: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return jittered
