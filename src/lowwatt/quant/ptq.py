"""Post-training quantization in one call: prepare, calibrate, choose fix points, make legal, verify."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.passes import prepare_for_quantization
from lowwatt.quant import vitis
from lowwatt.quant.calibration import collect
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class QuantReport:
    """Both graphs of a quantization: the prepared float one and its integers, tensor for tensor."""

    floating: Graph
    quantized: Graph
    images: int

    @property
    def float_nodes(self) -> list[Node]:
        """Operators that stay in float, on the host (docs/architecture.md, "Float islands"); empty in the best case."""
        return [node for node in self.quantized.nodes if not on_integers(self.quantized, node)]


def quantize(
    graph: Graph,
    batches: Iterable[Array],
    *,
    scheme: str = "vitis",
    calibration: str = "mse",
    progress: Callable[[int], None] | None = None,
) -> QuantReport:
    """Quantize a float graph after training.

    `batches` yields float32 NHWC arrays as the network sees them (0…255); one pass over them serves all tensors.
    `calibration` is "minmax" (clip nothing) or "mse" (least squares over five fix points). Operators
    without an INT8 form stay in float between quantized tensors (`QuantReport.float_nodes`); ToolError for one that
    has no rule at all.

    >>> # report = lowwatt.quantize(graph, [images]); lowwatt.compile(report.quantized)
    """
    if scheme != "vitis":
        raise ToolError(f"unknown scheme {scheme}", hint="known: vitis")
    prepared = graph.copy()
    prepare_for_quantization(prepared)
    vitis.unsupported(prepared)
    counted = _Counter(batches)
    histograms = collect(prepared, counted, progress)
    quantized = vitis.quantize_graph(prepared, histograms, calibration).verify()
    broken = vitis.violations(quantized)
    if broken:
        raise ToolError(
            "the quantized graph breaks a rule of the target",
            where=broken[0],
            hint="please report this graph",
        )
    return QuantReport(prepared, quantized, counted.images)


class _Counter:
    """Batches passed through, counting images."""

    def __init__(self, batches: Iterable[Array]) -> None:
        self._batches = batches
        self.images = 0

    def __iter__(self) -> Any:
        for batch in self._batches:
            self.images += len(batch)
            yield batch
