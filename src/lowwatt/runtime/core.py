"""The compiled core, where it is built: the one place that chooses between it and the NumPy twins."""

from __future__ import annotations

from typing import Any, Literal

from lowwatt.backends.kernels import find_core, load_core

Ends = Literal["auto", "core", "numpy"]
"""What does pre- and post-processing. "auto" takes the core where it is built (else it warns); both give the same."""


def choose(engine: Ends) -> Any:
    """The core's module, or None for NumPy. ToolError where the core is asked for and is not built."""
    if engine == "numpy":
        return None
    return load_core() if engine == "core" else find_core()
