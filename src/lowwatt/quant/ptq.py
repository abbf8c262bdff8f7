"""Post-training quantization in one call: prepare, plan, calibrate, improve, make legal, verify."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.passes import prepare_for_quantization
from lowwatt.quant import vitis
from lowwatt.quant.budget import Budget
from lowwatt.quant.effort import Progress, State, StepNote, Work, run_steps
from lowwatt.quant.plan import Params, Plan, apply, float_nodes, make_plan
from lowwatt.quant.readers import part_readers
from lowwatt.quant.scheme import Scheme, load_scheme
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class QuantReport:
    """A quantization: a float graph and its integers, tensor for tensor; plan and formats behind them.

    `floating` has the function of the network that was given, prepared and perhaps equalised.
    `changed` is the float graph after the steps (biases corrected, say): its constants, rounded, are the integers.
    `notes` tell what each step brought, `warnings` what is wrong with the calibration images.
    """

    floating: Graph
    changed: Graph
    quantized: Graph
    images: int
    plan: Plan
    params: Params
    notes: list[StepNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_fixed_point(self) -> bool:
        """Whether these are the DPU's integers, which the compiled core computes."""
        return self.plan.scheme.legality == "dpu"

    @property
    def float_nodes(self) -> list[Node]:
        """Operators that run in float, on the host of a DPU (docs/architecture.md, "Float islands")."""
        floating = float_nodes(self.floating, self.plan.scheme) | self.plan.spared
        return [node for node in self.quantized.nodes if node.name in floating]


def quantize(
    graph: Graph,
    batches: Iterable[Array],
    *,
    scheme: str | Path | Scheme = "vitis",
    calibration: str | None = None,
    effort: str = "fast",
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> QuantReport:
    """Quantize a float graph after training.

    `batches` yields float32 NHWC arrays as the network sees them (0…255); all of them are kept in memory.
    `scheme` is a target's number format and rules: a name of `scheme_names()`, or a YAML file of one's own.
    `calibration` is a method of `lowwatt.quant.fit.METHODS`; the scheme's own where None. `effort` is a level of
    `lowwatt.quant.effort.EFFORTS`; `budget` gives layers fewer bits where they cost least, and leaves some in float
    where most is lost (the latter where the effort is above fast). Operators without an INT8 form stay in float between
    quantized tensors (`QuantReport.float_nodes`); ToolError for one that has no rule at all, and for a budget that
    cannot be met.

    >>> # report = lowwatt.quantize(graph, [images]); lowwatt.compile(report.quantized)
    """
    rules = load_scheme(scheme)
    budget = budget or Budget()
    budget.check(rules)
    prepared = prepared_copy(graph, rules)
    images = list(batches)
    tell: Progress = progress or (lambda step, share: None)
    start = State(prepared, prepared, make_plan(prepared, rules), {}, {})
    work = Work(prepared, images, calibration or rules.calibration, tell, start, budget)
    run_steps(work, effort)
    end = work.state
    report = report_of(end.base, end.plan, end.params, sum(map(len, images)), end.graph)
    return replace(report, notes=work.notes, warnings=work.warnings)


def prepared_copy(graph: Graph, rules: Scheme) -> Graph:
    """The graph as plans are made for it: batch norms folded, activations fused as the target fuses them."""
    prepared = graph.copy()
    prepare_for_quantization(prepared, rules.fuse)
    if rules.apart:
        part_readers(prepared, rules)
    return prepared


def report_of(floating: Graph, plan: Plan, params: Params, images: int, changed: Graph | None = None) -> QuantReport:
    """The quantized graph of a plan and its formats, made legal and checked; of `changed` where steps changed it."""
    scheme, source = plan.scheme, floating if changed is None else changed
    if scheme.legality == "dpu":
        params = vitis.legalize(source, plan, params)
    quantized = apply(source, params).verify()
    meta.set_scheme(quantized, scheme.name, scheme.exports)
    broken = vitis.violations(quantized) if scheme.legality == "dpu" else []
    if broken:
        why = "please report this graph"
        raise ToolError("the quantized graph breaks a rule of the target", where=broken[0], hint=why)
    return QuantReport(floating, source, quantized, images, plan, params)
