"""The last line of every benchmark, and the exit status that goes with it."""

from __future__ import annotations


def conclude(what: str, figure: str, bar: str, holds: bool) -> int:
    """Print `<what>: <figure>, bar <bar>: holds | falls short`; 0 where it holds, else 1."""
    print(f"{what}: {figure}, bar {bar}: {'holds' if holds else 'falls short'}")
    return 0 if holds else 1
