"""Text and numbers from files that somebody else wrote."""

from __future__ import annotations

import re
from pathlib import Path

from lowwatt.errors import ToolError

MAX_BYTES = 64 << 20
"""More than any description of a machine has: a hand-off file is a megabyte or few."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,18}")


def read_bytes(path: Path, what: str) -> bytes:
    """Content of a file; ToolError `what` where it cannot be read or is too large to be what it should be."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ToolError(what, where=str(path), why=why) from None
    if len(data) > MAX_BYTES:
        raise ToolError(what, where=str(path), why=f"it is larger than {MAX_BYTES >> 20} MiB")
    return data


def read_text(path: Path, what: str) -> str:
    """Content as UTF-8 text."""
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolError(what, where=str(path), why=str(error)) from None


def number(text: str) -> int:
    """Whole number, decimal or 0x…; ToolError for anything else.

    >>> number("0x41")
    65
    """
    if not _NUMBER.fullmatch(text):
        raise ToolError("not a number", where=text[:80], why="digits, or 0x and at most 16 hexadecimal digits")
    return int(text, 0) if text[:2] in ("0x", "0X") else int(text)
