"""lowwatt: from a labelled data set to a detector that runs in INT8 on a low-power chip."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "train": "lowwatt.training",
    "quantize": "lowwatt.quant",
    "compile": "lowwatt.compiler",
    "Engine": "lowwatt.runtime",
    "score": "lowwatt.evaluate",
    "load": "lowwatt.loading",
    "ToolError": "lowwatt.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import lowwatt` stays quick."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lowwatt' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
