"""Where images come from: a file, a folder, a pattern, or any sequence of paths and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

Image = str | Path | NDArray[np.uint8]
Source = Image | Iterable[Image]


def images_of(source: Source) -> Iterator[Image]:
    """Images of a source, in order (folders and patterns: by name).

    A path that names a folder gives the image files in it; one with * or ? that is no file gives what it
    matches; a list or iterable gives its items, each of which may be a path, a folder, a pattern or a uint8
    array. One array is one image. ToolError for a folder or pattern without images; a file that does not exist
    is left to whoever reads it.

    >>> list(images_of(["a.jpg", "b.jpg"]))
    ['a.jpg', 'b.jpg']
    """
    if isinstance(source, np.ndarray):
        yield source
    elif isinstance(source, (str, Path)):
        yield from _from_path(source)
    else:
        for item in source:
            yield from images_of(item)


def name_of(image: Image, frame: int) -> str:
    """What a result calls its image: the path, or the frame's number."""
    return f"frame {frame}" if isinstance(image, np.ndarray) else str(image)


def pixels_of(image: Image, channels: int) -> NDArray[np.uint8]:
    """Pixels of an image, uint8 (H, W) or (H, W, C); a file is decoded to `channels`. ToolError for what is none."""
    if not isinstance(image, np.ndarray):
        return read_image(image, channels)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ToolError(
            "this is no image",
            why=f"it is {image.dtype} of shape {image.shape}; uint8 (H, W), (H, W, 1) or (H, W, 3) is expected",
        )
    if not image.size:
        raise ToolError("the image is empty", why=f"its shape is {image.shape}")
    return image


def _from_path(source: str | Path) -> Iterator[Image]:
    path = Path(source)
    if path.is_dir():
        yield from _demand(sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), source)
    elif any(sign in str(source) for sign in "*?") and not path.exists():
        base = Path(path.anchor)
        yield from _demand(sorted(base.glob(str(path.relative_to(path.anchor)))), source)
    else:
        yield source


def _demand(found: list[Path], source: str | Path) -> list[Path]:
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ToolError("no images here", where=str(source), hint=f"known suffixes: {known}")
    return found
