"""Quantization: calibration, the number formats of targets, fake quantization, error analysis."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = ("quantize", "QuantReport")
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import on first use: what is behind these names needs torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lowwatt.quant' has no attribute {name!r}")
    return getattr(importlib.import_module("lowwatt.quant.ptq"), name)
