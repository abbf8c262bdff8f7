"""The vendor's .xmodel files: `read` (exported and compiled ones) and `write` (the kind that its compiler takes)."""

from __future__ import annotations

from lowwatt.ir.xmodel_reader import read
from lowwatt.ir.xmodel_writer import write

__all__ = ["read", "write"]
