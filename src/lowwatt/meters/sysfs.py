"""Files of the kernel that hold one number each."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

_LONGEST = 64


class Number:
    """A number that the kernel works out anew at each read. The file stays open: a read is then one system call.

    OSError where the file cannot be opened or read; ValueError where it holds no number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)

    def read(self) -> int:
        """The number now."""
        return int(os.pread(self._handle, _LONGEST, 0))


def word(path: Path) -> str:
    """The text of a small file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""
