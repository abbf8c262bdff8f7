"""The simulator: the core's integers, or those of the executed instruction words, and what the accelerator spends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lowwatt.backends.base import BackendStatus
from lowwatt.backends.core import CoreBackend
from lowwatt.backends.kernels import SLOWER, find_core
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.types import Array

FIDELITIES = ("fast", "words")


class SimulatorBackend(CoreBackend):
    """`layers` are the compiler's cost rows where it was opened from a Program, else empty.

    `fidelity`: "fast" gives the core's integers; "words", for a Program, executes every instruction word. Both are
    equal; the second is the proof of it, and some hundred times slower. Where the core was not built, every node runs
    through its integer rule, which a warning says.
    """

    name = "simulator"
    _load: Callable[[], Any] = staticmethod(find_core)

    def __init__(self, source: Any, fidelity: str = "fast") -> None:
        super().__init__(source)
        self.layers: tuple[Any, ...] = tuple(getattr(source, "layers", ()))
        if fidelity not in FIDELITIES:
            raise ToolError(f"unknown fidelity {fidelity}", hint=did_you_mean(fidelity, FIDELITIES))
        if fidelity == "words" and not hasattr(source, "segments"):
            raise ToolError("only a program has words", hint="lowwatt compile the graph first")
        self._program = source if fidelity == "words" else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers."""
        if self._program is None:
            return super().run(inputs)
        from lowwatt.sim import simulate

        return simulate(self._program, inputs).outputs

    @classmethod
    def status(cls) -> BackendStatus:
        """Always; slowly without the core."""
        core = super().status()
        return core if core.usable else BackendStatus(cls.name, True, f"without the compiled core: {SLOWER}")
