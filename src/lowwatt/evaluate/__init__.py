"""How good a detector is: COCO AP, energy, the LPCV score, and the report of a run."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "score": "lowwatt.evaluate.lpcv",
    "energy_model": "lowwatt.evaluate.lpcv",
    "coco_ap": "lowwatt.evaluate.coco",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lowwatt.evaluate' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
