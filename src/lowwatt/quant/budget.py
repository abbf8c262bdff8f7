"""What mixed precision may cost, and what it must keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.quant.scheme import Scheme

Latency = Callable[[Graph], float]
"""Milliseconds a frame that a quantized graph needs on the target; the compiler's, where it has one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Fewer bits, or float, where they count.

    `size_share`: layers get fewer bits until all weights take this share of their bytes. `keep_db`: they get as few as
    keep this signal to noise at the outputs. `float_share`: of the multiply-accumulates may stay in float, in the
    layers that lose most; `max_ms`: these may stay as long as a frame takes no more on the target, by `latency`.
    """

    size_share: float = 1.0
    keep_db: float | None = None
    float_share: float = 0.0
    max_ms: float | None = None
    latency: Latency | None = None

    @property
    def fewer_bits(self) -> bool:
        """Whether layers are to get fewer bits."""
        return self.size_share < 1 or self.keep_db is not None

    @property
    def some_float(self) -> bool:
        """Whether layers may stay in float."""
        return self.float_share > 0 or self.max_ms is not None

    @property
    def work_share(self) -> float:
        """Of the multiply-accumulates that may be in float."""
        return self.float_share or (1.0 if self.max_ms is not None else 0.0)

    def fits(self, quantized: Callable[[], Graph]) -> bool:
        """Whether a quantized graph is quick enough; it is made only where a latency is held to."""
        return self.max_ms is None or self.latency is None or self.latency(quantized()) <= self.max_ms

    def check(self, scheme: Scheme) -> None:
        """ToolError for what the scheme cannot do, and for two wishes that exclude each other."""
        if self.fewer_bits and scheme.legality == "dpu":
            where = "size_share" if self.size_share < 1 else "keep_db"
            raise ToolError("the DPU has 8 bits only", where=where, hint="academic takes any number of bits")
        if self.size_share < 1 and self.keep_db is not None:
            raise ToolError("give a size or a signal-to-noise ratio to keep, and one of them only", where="keep_db")
        if self.max_ms is not None and self.latency is None:
            why = f"nobody models what {scheme.name} takes"
            raise ToolError("there is no latency to hold to", where="max_ms", why=why, hint="vitis has a compiler")
