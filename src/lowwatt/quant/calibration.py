"""Calibration: one pass over images fills a histogram for each tensor, from which fix points are searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array

BINS = 2048
"""Bins on either side of zero. Ranges grow by powers of two, so that old bins merge without a remainder."""

SEARCH = 5
"""Fix points tried from the widest that clips nothing, as the vendor's "diffs" search does (docs/dpu.md 3.12)."""


@dataclass(slots=True)
class Histogram:
    """Distribution of one tensor over [-2**exponent, 2**exponent), with its exact extremes."""

    exponent: int = -20
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2 * BINS))
    low: float = math.inf
    high: float = -math.inf

    def update(self, value: torch.Tensor) -> None:
        """Add all elements of `value`."""
        low, high = (float(x) for x in torch.aminmax(value))
        if not math.isfinite(low) or not math.isfinite(high):
            raise ToolError("calibration met a value that is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(abs(low), abs(high)))
        edge = 2.0**self.exponent
        self.counts += torch.histc(value, 2 * BINS, -edge, edge).double().numpy()

    def _grow(self, largest: float) -> None:
        while 2.0**self.exponent < largest:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.zeros(2 * BINS)
            self.counts[BINS // 2 : BINS // 2 + BINS] = merged
            self.exponent += 1

    def squared_error(self, fix_point: int, bits: int = 8) -> float:
        """Sum of squared differences that rounding and clipping at `fix_point` would cause."""
        centres = (np.arange(2 * BINS) - BINS + 0.5) * (2.0**self.exponent / BINS)
        return float((self.counts * rounding_error(centres, fix_point, bits) ** 2).sum())


def rounding_error(values: Array, fix_point: int, bits: int = 8) -> NDArray[np.float64]:
    """Real value minus its nearest representable one (half up, saturated)."""
    scaled = np.asarray(values, np.float64) * 2.0**fix_point
    limit = 1 << (bits - 1)
    error: NDArray[np.float64] = (scaled - np.clip(np.floor(scaled + 0.5), -limit, limit - 1)) * 2.0**-fix_point
    return error


def widest_fix_point(low: float, high: float, bits: int = 8) -> int:
    """Largest fix point at which [low, high] is not clipped; 18 for a tensor of zeros (docs/dpu.md 3.12).

    >>> widest_fix_point(0.0, 255.0)
    -1
    """
    step = max(low / (-(2 ** (bits - 1)) - 0.5), high / (2 ** (bits - 1) - 0.5))
    return 18 if step <= 2.0**-18 else math.floor(math.log2(1 / step))


def search_fix_point(low: float, high: float, error: Callable[[int], float], steps: int = SEARCH) -> int:
    """Fix point of least squared error among `steps` from the widest one; the first wins a tie."""
    first = widest_fix_point(low, high)
    return min(range(first, first + steps), key=error)


def constant_fix_point(data: Array, method: str) -> int:
    """Fix point of a weight or bias array."""
    steps = SEARCH if method == "mse" else 1
    return search_fix_point(
        float(data.min()), float(data.max()), lambda f: float((rounding_error(data, f) ** 2).sum()), steps
    )


def group_fix_point(histograms: Sequence[Histogram], method: str) -> int:
    """One fix point for tensors that must share it: least error summed over all of them."""
    steps = SEARCH if method == "mse" else 1
    low, high = min(h.low for h in histograms), max(h.high for h in histograms)
    return search_fix_point(low, high, lambda f: sum(h.squared_error(f) for h in histograms), steps)


def collect(
    graph: Graph, batches: Iterable[Array], progress: Callable[[int], None] | None = None
) -> dict[str, Histogram]:
    """Histogram of every input and node output over `batches` (float32 NHWC arrays), in one pass."""
    executor = TorchExecutor(graph)
    table: dict[str, Histogram] = {name: Histogram() for name in [*graph.inputs, *(n.name for n in graph.nodes)]}
    seen = 0
    with torch.inference_mode():
        for batch in batches:
            executor({graph.inputs[0]: torch.from_numpy(batch)}, lambda name, value: table[name].update(value))
            seen += len(batch)
            if progress is not None:
                progress(seen)
    if not seen:
        raise ToolError("calibration needs at least one image", hint="check the data set with `lowwatt data check`")
    return table
