"""A file within a tar, named by a path: train-00000.tar/1536+20480@a.jpg is the 20480 bytes from byte 1536 on.

Whoever is given such a path reads it as any other; nothing is unpacked, and no tar is searched.
"""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"(\d{1,18})\+(\d{1,18})@.+")


def member_path(tar: Path, offset: int, size: int, name: str) -> Path:
    """The path of a member; of its name only letters, digits, dots and dashes are kept.

    >>> member_path(Path("a.tar"), 512, 9, "x/y.jpg").name
    '512+9@x_y.jpg'
    """
    return tar / f"{offset}+{size}@{re.sub(r'[^A-Za-z0-9.-]', '_', name)}"


def read_bytes(path: Path) -> bytes:
    """Content of a file, or of a member of a tar; OSError where it cannot be read whole."""
    place = _place(path)
    if place is None:
        return path.read_bytes()
    offset, size = place
    with path.parent.open("rb") as file:
        if offset + size > file.seek(0, 2):
            raise OSError(f"{path.parent.name} ends before byte {offset + size}")
        file.seek(offset)
        return file.read(size)


def size_of(path: Path) -> int:
    """Bytes of a file or member, as stated; OSError where there is none."""
    place = _place(path)
    return path.stat().st_size if place is None else place[1]


def _place(path: Path) -> tuple[int, int] | None:
    """Offset and size of a member; None where the path is a file's own."""
    if "\0" in str(path):
        raise OSError("no file has such a name")
    place = _NAME.fullmatch(path.name) if path.parent.suffix == ".tar" else None
    return (int(place[1]), int(place[2])) if place is not None and path.parent.is_file() else None
