"""Post-training quantization in one call: prepare, calibrate, choose fix points, make legal, verify."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.passes import prepare_for_quantization
from lowwatt.quant import vitis
from lowwatt.quant.calibration import calibrate, collect
from lowwatt.quant.plan import Params, Plan, apply, float_nodes, make_plan
from lowwatt.quant.readers import part_readers
from lowwatt.quant.scheme import Scheme, load_scheme
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class QuantReport:
    """A quantization: the prepared float graph and its integers, tensor for tensor; plan and formats behind them."""

    floating: Graph
    quantized: Graph
    images: int
    plan: Plan
    params: Params

    @property
    def float_nodes(self) -> list[Node]:
        """Operators that run in float, on the host of a DPU (docs/architecture.md, "Float islands")."""
        floating = float_nodes(self.floating, self.plan.scheme)
        return [node for node in self.quantized.nodes if node.name in floating]


def quantize(
    graph: Graph,
    batches: Iterable[Array],
    *,
    scheme: str | Path | Scheme = "vitis",
    calibration: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> QuantReport:
    """Quantize a float graph after training.

    `batches` yields float32 NHWC arrays as the network sees them (0…255); one pass over them serves all tensors.
    `scheme` is a target's number format and rules: a name of `scheme_names()`, or a YAML file of one's own.
    `calibration` is a method of `lowwatt.quant.fit.METHODS`; the scheme's own where None. Operators without an
    INT8 form stay in float between quantized tensors (`QuantReport.float_nodes`); ToolError for one that has no rule.

    >>> # report = lowwatt.quantize(graph, [images]); lowwatt.compile(report.quantized)
    """
    rules = load_scheme(scheme)
    prepared = graph.copy()
    prepare_for_quantization(prepared, rules.fuse)
    if rules.apart:
        part_readers(prepared, rules)
    plan = make_plan(prepared, rules)
    counted = _Counter(batches)
    histograms = collect(prepared, counted, progress)
    params = calibrate(prepared, plan, histograms, calibration or rules.calibration)
    return report_of(prepared, plan, params, counted.images)


def report_of(floating: Graph, plan: Plan, params: Params, images: int) -> QuantReport:
    """The quantized graph of a plan and its formats, made legal and checked."""
    if plan.scheme.legality == "dpu":
        params = vitis.legalize(floating, plan, params)
    quantized = apply(floating, params).verify()
    meta.set_scheme(quantized, plan.scheme.name, plan.scheme.exports)
    broken = vitis.violations(quantized) if plan.scheme.legality == "dpu" else []
    if broken:
        raise ToolError(
            "the quantized graph breaks a rule of the target", where=broken[0], hint="please report this graph"
        )
    return QuantReport(floating, quantized, images, plan, params)


class _Counter:
    """Batches passed through, counting images."""

    def __init__(self, batches: Iterable[Array]) -> None:
        self._batches = batches
        self.images = 0

    def __iter__(self) -> Any:
        for batch in self._batches:
            self.images += len(batch)
            yield batch
