"""stub"""
from __future__ import annotations
from pathlib import Path
def read(path: str | Path) -> bytes:
    return Path(path).read_bytes()
