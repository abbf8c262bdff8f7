"""The simulator: the core's integers, and what the accelerator would spend on them."""

from __future__ import annotations

from typing import Any

from lowwatt.backends.core import CoreBackend


class SimulatorBackend(CoreBackend):
    """As the core; `layers` are the compiler's cost rows where it was opened from a Program, else empty."""

    name = "simulator"

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self.layers: tuple[Any, ...] = tuple(getattr(source, "layers", ()))
