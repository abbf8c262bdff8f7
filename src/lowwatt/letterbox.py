"""From an image to the network's input: decode (gray straight from the file), scale, pad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.members import read_bytes
from lowwatt.types import Letterbox, Preprocess

CROPPED = 0.875
"""Share of an image's shorter side that a classifier is shown: 224 of 256 pixels, as the published ones are scored."""


def read_image(path: str | Path, channels: int) -> NDArray[np.uint8]:
    """Decode a file, or a member of a tar (lowwatt.members), to uint8 (H, W, channels).

    Gray is decoded as gray, which equals the board's own path. Raises ToolError for a missing, unreadable
    or damaged file.
    """
    import cv2

    source = Path(path)
    try:
        content = np.frombuffer(read_bytes(source), np.uint8)
    except OSError as error:
        raise ToolError("cannot read the image", where=str(source), why=error.strerror or str(error)) from None
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(content, flag) if len(content) else None
    except cv2.error as error:
        raise ToolError("cannot decode the image", where=str(source), why=str(error).strip()) from None
    if image is None:
        raise ToolError(
            "cannot decode the image",
            where=str(source),
            why="empty file" if not len(content) else "no known image format",
        )
    pixels: NDArray[np.uint8] = image.reshape(image.shape[0], image.shape[1], channels)
    return pixels


def letterbox(image: NDArray[np.uint8], preprocess: Preprocess) -> tuple[NDArray[np.uint8], Letterbox]:
    """Scale uint8 (H, W, C) to the input's size as `preprocess.fit` says, and pad; also the map that brings boxes back.

    An image of another number of channels is converted (BGR order is assumed). After a crop the map starts at the part
    that was taken.
    """
    scaled, box = scale_to_fit(image, preprocess)
    padded = np.full((*preprocess.size, preprocess.channels), preprocess.pad_value, np.uint8)
    box.inside(padded)[...] = scaled
    return padded, box


def scale_to_fit(image: NDArray[np.uint8], preprocess: Preprocess) -> tuple[NDArray[np.uint8], Letterbox]:
    """As `letterbox`, before the padding: uint8 (height, width, channels) of `Letterbox.resized`."""
    import cv2

    image = _middle(_with_channels(image, preprocess.channels), preprocess)
    source = (image.shape[0], image.shape[1])
    if preprocess.fit == "letterbox":
        box = Letterbox.fit(source, preprocess.size, preprocess.centre)
    else:
        box = Letterbox.stretch(source, preprocess.size)
    height, width = box.resized
    interpolation = cv2.INTER_AREA if box.scale < 0.5 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (width, height), interpolation=interpolation)
    return scaled.reshape(height, width, -1), box


def _with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    import cv2

    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 4:  # alpha
        image = image[:, :, :3]
    if image.shape[2] == channels:
        return image
    converted: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_GRAY2BGR)
    return converted.reshape(*image.shape[:2], channels)


def _middle(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Where a crop is asked for, the middle of an image in the input's proportions, as large as fits, less an eighth.

    An image of just the input's size was cut by whoever made the data set; it stays whole.

    >>> _middle(np.zeros((80, 160, 3), np.uint8), Preprocess((224, 224), 3, fit="crop")).shape
    (70, 70, 3)
    """
    height, width, _ = image.shape
    size = preprocess.size
    if preprocess.fit != "crop" or (height, width) == size:
        return image
    scale = CROPPED * min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]
