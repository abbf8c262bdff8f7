"""Size of an image from its header, where that is safe: labels in shares of the image need no decoding."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's start-of-frame markers
_APP1 = 0xE1  # where EXIF may say that the picture is to be turned


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as the decoder gives them; ToolError where the image cannot be read.

    JPEGs with EXIF, which may be turned, and formats other than JPEG and PNG are decoded.
    """
    try:
        with path.open("rb") as file:
            size = _of_header(file)
    except (OSError, struct.error):
        size = None
    except ValueError as error:  # a name that no file can have
        raise ToolError("cannot read the image", where=str(path), why=str(error)) from None
    if size is None or min(size) < 1:
        height, width = read_image(path, 1).shape[:2]
        return height, width
    return size


def _of_header(file: BinaryIO) -> tuple[int, int] | None:
    start = file.read(8)
    if start == _PNG:
        _, kind, width, height = struct.unpack(">I4sII", file.read(16))
        return (height, width) if kind == b"IHDR" else None
    if start[:2] != b"\xff\xd8":
        return None
    file.seek(2)
    while True:
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or kind == _APP1 or length < 2:
            return None
        if kind in _FRAMES:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return height, width
        file.seek(length - 2, 1)
