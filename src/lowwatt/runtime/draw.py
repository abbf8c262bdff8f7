"""Boxes on an image, with names that can be read; classes of pixels in colours."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.types import Detections

Colour = tuple[int, int, int]
_GOLDEN = 0.618033988749895
"""Step of the hue from class to class: neighbours differ, however many there are."""


def class_colour(label: int) -> Colour:
    """BGR colour of a class: the same in every image.

    >>> class_colour(0) == class_colour(0) != class_colour(1)
    True
    """
    red, green, blue = colorsys.hsv_to_rgb((0.02 + label * _GOLDEN) % 1.0, 0.85, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """A BGR copy of `image` (uint8, H x W, gray or BGR) with a box and a label for each detection.

    Boxes with the best scores are drawn last, so that they lie on top. Small images are enlarged to a longer side of
    at least 640 pixels first, so that the labels can be read.
    """
    canvas, scale = _canvas(image)
    thickness = max(2, round(max(canvas.shape[:2]) / 400))
    for index in reversed(range(len(detections))):
        colour = class_colour(int(detections.label[index]))
        _draw_box(canvas, detections.xyxy[index] * scale, _caption(detections, index), colour, thickness)
    return canvas


def overlay(image: NDArray[np.uint8], classes: NDArray[np.uint8], share: float = 0.5) -> NDArray[np.uint8]:
    """A BGR copy of `image` (uint8, H x W, gray or BGR) with `share` of each class's colour; `classes` is (H, W)."""
    import cv2

    gray = image.ndim == 2 or image.shape[2] == 1
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if gray else image[:, :, :3]
    table = np.array([class_colour(label) for label in range(256)], np.uint8)
    mixed: NDArray[np.uint8] = cv2.addWeighted(picture, 1 - share, table[classes], share, 0)
    return mixed


def save(image: NDArray[np.uint8], path: str | Path) -> None:
    """Write an image (the suffix says how) atomically.

    ToolError for a suffix that names no image format, and for an image that its format cannot hold (JPEG ends at 65,500
    pixels a side).
    """
    import cv2

    try:
        encoded, content = cv2.imencode(Path(path).suffix or ".none", image)
    except cv2.error as error:
        raise ToolError("cannot write the image", where=str(path), why=str(error).strip()) from None
    if not encoded:
        raise ToolError("cannot write the image", where=str(path), why=f"its size is {image.shape[1::-1]}")
    write_bytes(path, content.tobytes())


def _canvas(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    import cv2

    gray = image.ndim == 2 or image.shape[2] == 1
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if gray else image[:, :, :3].copy()
    longest = max(canvas.shape[:2])
    scale = max(1.0, 640 / longest)
    if scale > 1.0:
        height, width = round(canvas.shape[0] * scale), round(canvas.shape[1] * scale)
        canvas = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_CUBIC)
    return canvas, scale


def _caption(detections: Detections, index: int) -> str:
    label = int(detections.label[index])
    name = detections.names[label] if label < len(detections.names) else f"class {label}"
    return f"{name} {100 * detections.score[index]:.0f}%"


def _draw_box(
    canvas: NDArray[np.uint8], xyxy: NDArray[np.float32], caption: str, colour: Colour, thickness: int
) -> None:
    import cv2

    left, top, right, bottom = (round(float(v)) for v in xyxy)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.17 * thickness + 0.1
    (width, height), below = cv2.getTextSize(caption, font, size, max(1, thickness // 2))
    tall = height + below + thickness
    x = max(0, min(left, canvas.shape[1] - width - thickness))
    y = top - tall if top >= tall else max(0, min(top, canvas.shape[0] - tall))
    cv2.rectangle(canvas, (x, y), (x + width + thickness, y + tall), colour, cv2.FILLED)
    ink = (0, 0, 0) if _luminance(colour) > 140 else (255, 255, 255)
    cv2.putText(
        canvas,
        caption,
        (x + thickness // 2, y + height + thickness // 2),
        font,
        size,
        ink,
        max(1, thickness // 2),
        cv2.LINE_AA,
    )


def _luminance(colour: Colour) -> float:
    return 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
