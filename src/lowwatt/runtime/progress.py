"""How far a stream has come: a line on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Who is told how far a run has come."""

    def start(self, total: int) -> None:
        """Begin; `total` is 0 where it is not known."""

    def update(self, done: int) -> None:
        """So many are done."""

    def finish(self) -> None:
        """End, however it came to it."""


class LineProgress:
    """One line, written anew: on a terminal every tenth of a second, elsewhere every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def start(self, total: int) -> None:
        """Begin."""
        self._total, self._done = total, 0
        self._began = self._shown = time.monotonic()

    def update(self, done: int) -> None:
        """Show it, if the last time is long enough ago."""
        self._done = done
        if time.monotonic() - self._shown > (0.1 if self._terminal else 10.0):
            self._shown = time.monotonic()
            self._show("\r" if self._terminal else "", "" if self._terminal else "\n")

    def finish(self) -> None:
        """Show where it ended."""
        self._show("\r" if self._terminal else "", "\n")

    def _show(self, before: str, behind: str) -> None:
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        of = f"/{self._total}" if self._total else ""
        left = f", {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
        sys.stderr.write(f"{before}{self._done}{of} images, {rate:.1f} a second{left}   {behind}")
        sys.stderr.flush()


@contextmanager
def telling(progress: bool | Progress, total: int) -> Iterator[Progress | None]:
    """The one to tell: a line for True, nobody for False."""
    if progress is False:
        yield None
        return
    teller = LineProgress() if progress is True else progress
    teller.start(total)
    try:
        yield teller
    finally:
        teller.finish()
