"""Running a detector: `Engine`, image sources, pre- and post-processing, drawing."""

from __future__ import annotations

from typing import Any

__all__ = ["Engine"]


def __getattr__(name: str) -> Any:
    if name != "Engine":
        raise AttributeError(f"module 'lowwatt.runtime' has no attribute {name!r}")
    from lowwatt.runtime.engine import Engine

    return Engine
