"""quantize: integers from a file, with accuracy before and after in the same command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.recipe import QuantSettings
from lowwatt.types import Array
from lowwatt.verbs.compile import DEFAULT_TARGET

if TYPE_CHECKING:
    from lowwatt.ir.graph import Graph
    from lowwatt.quant import QuantReport
    from lowwatt.quant.budget import Budget
    from lowwatt.quant.plan import Plan
    from lowwatt.quant.scheme import Scheme
    from lowwatt.quant.sensitivity import LayerError

ProgressFactory = Callable[[str], Any]

ANALYSED = 8
"""Images on which each layer's error is measured."""


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """What `lowwatt quantize` is asked: file, data set folder, file to write, settings; of a network that was trained
    elsewhere also names of classes and kind of pixels. `page` is a report to write, which has each layer's error;
    `target` the machine of a budget of milliseconds.
    """

    file: Path
    root: str
    out: Path
    settings: QuantSettings
    labels: Path | None = None
    pixels: str = ""
    evaluate: bool = True
    analyse: bool = False
    page: Path | None = None
    target: str = DEFAULT_TARGET


def quantize_file(
    job: QuantizeJob, progress: ProgressFactory, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Quantize, write, and measure.

    {quantized, scheme, images, float: nodes by operator, steps, warnings, measure, accuracy by stage, scored: images
    behind it, layers, analysed: images behind them, verdict, report: the page}.
    `tell` is given what was worked out about a network that was trained elsewhere.
    """
    from lowwatt.ir import store
    from lowwatt.verbs.yardstick import yardstick_for

    graph = _float_graph(job, tell)
    yardstick = yardstick_for(graph, job.root)
    if job.settings.effort != "fast":
        _refuse_early(graph, job.settings)
    report = quantize_on(graph, yardstick.calibration(job.settings.images), job.settings, progress, job.target)
    store.save(report.quantized, job.out)
    accuracy: dict[str, float] = {}
    for stage in stages_of(report) if job.evaluate else ():
        accuracy[stage] = yardstick.measure(*on_stage(report, stage), progress(stage))
    sample = list(yardstick.calibration(ANALYSED)) if job.analyse or job.page else []
    result = {
        "quantized": str(job.out),
        "scheme": report.plan.scheme.name,
        "images": report.images,
        "float": float_operators(report),
        "steps": report.notes,
        "warnings": report.warnings,
        "measure": yardstick.name,
        "accuracy": accuracy,
        "scored": yardstick.scored if job.evaluate else 0,
        "layers": analyse(report, sample, progress) if sample else [],
        "analysed": sum(map(len, sample)),
        "verdict": verdict(accuracy, job.settings.max_drop),
        "report": "" if job.page is None else str(job.page),
    }
    if job.page is not None:
        _write_page(job, report, result)
    return result


def _write_page(job: QuantizeJob, report: QuantReport, result: dict[str, Any]) -> None:
    from lowwatt.evaluate.quant_page import write_quant_html
    from lowwatt.verbs.quantize_report import record_of

    write_quant_html(record_of(job.file.name, job.settings, report, result), result["report"])


def _refuse_early(graph: Graph, settings: QuantSettings) -> None:
    """What cannot be exported is refused before minutes are spent on it."""
    from lowwatt.verbs.dry_run import dry_run

    dry_run(graph, scheme_of(settings))


def dry_run_file(job: QuantizeJob) -> list[str]:
    """Quantize with made-up ranges and write the target's files; a line for each."""
    from lowwatt.verbs.dry_run import dry_run

    return dry_run(_float_graph(job, lambda line: None), scheme_of(job.settings))


def explain_file(file: Path, settings: QuantSettings, labels: Path | None = None) -> Plan:
    """The plan for a file without any data: which tensor carries which integers, by which rule."""
    from lowwatt.quant.plan import make_plan
    from lowwatt.quant.ptq import prepared_copy

    graph = _float_graph(QuantizeJob(file, "", Path(), settings, labels), lambda line: None)
    rules = scheme_of(settings)
    return make_plan(prepared_copy(graph, rules), rules)


def scheme_of(settings: QuantSettings) -> Scheme:
    """The scheme at the bits that were asked for."""
    from lowwatt.quant.scheme import load_scheme

    return load_scheme(settings.scheme).with_bits(settings.weight_bits, settings.activation_bits)


def _float_graph(job: QuantizeJob, tell: Callable[[str], None]) -> Graph:
    """The float graph of a file, with a head that accuracy is measured by."""
    from lowwatt.loading import load_with_head, read_labels

    graph, line = load_with_head(job.file, () if job.labels is None else read_labels(job.labels), job.pixels)
    if graph.has_integers:
        raise ToolError("the graph is quantized already", where=str(job.file), hint="give the float graph or the model")
    if line:
        tell(line)
    return graph


def float_operators(report: QuantReport) -> dict[str, list[str]]:
    """Nodes that stay in float, by operator."""
    table: dict[str, list[str]] = {}
    for node in report.float_nodes:
        table.setdefault(node.op, []).append(node.name)
    return table


def budget_of(settings: QuantSettings, target: str) -> Budget:
    """What mixed precision may cost; milliseconds are those of the program that the compiler makes for `target`."""
    from lowwatt.quant.budget import Budget

    def latency(graph: Graph) -> float:
        from lowwatt.compiler import compile

        return compile(graph, target).latency_ms

    modelled = latency if scheme_of(settings).legality == "dpu" else None
    return Budget(settings.size_share, settings.keep_db, settings.float_share, settings.max_ms, modelled)


def quantize_on(
    graph: Graph,
    batches: Iterable[Array],
    settings: QuantSettings,
    progress: ProgressFactory,
    target: str = DEFAULT_TARGET,
) -> QuantReport:
    """Quantize with calibration images; `target` is the machine on which a latency is held to."""
    from lowwatt.quant import quantize

    bar = progress("quantize")
    bar.start(100)
    try:
        return quantize(
            graph,
            batches,
            scheme=scheme_of(settings),
            calibration=settings.calibration,
            effort=settings.effort,
            budget=budget_of(settings, target),
            progress=lambda step, share: bar.update(round(100 * share), {"step": step}),
        )
    finally:
        bar.finish()


def analyse(report: QuantReport, batches: Iterable[Array], progress: ProgressFactory) -> list[LayerError]:
    """Error of each layer, on a few images."""
    import numpy as np

    from lowwatt.quant.sensitivity import layer_errors

    bar = progress("analyse")
    bar.start(100)
    try:
        return layer_errors(report, np.concatenate(list(batches)), lambda share: bar.update(round(100 * share)))
    finally:
        bar.finish()


def stages_of(report: QuantReport) -> tuple[str, ...]:
    """Float, fake-quantized, and what the target computes: integers, or where these are its own, onnxruntime's QDQ."""
    return ("FP32", "fake-quant", "integer" if report.is_fixed_point else "onnxruntime")


def on_stage(report: QuantReport, stage: str) -> tuple[Graph, Any]:
    """Graph and backend of a stage: FP32 on onnxruntime, fake-quantized on torch, integers on the compiled core."""
    from lowwatt.quant.backend import TorchBackend

    graph = report.floating if stage == "FP32" else report.quantized
    named = {"FP32": "onnxruntime", "integer": "core", "onnxruntime": "onnxruntime"}
    return graph, named.get(stage) or TorchBackend(graph)


def verdict(accuracy: dict[str, float], max_drop: float) -> str:
    """Empty, or why the integers are not good enough: more accuracy lost than allowed."""
    if not accuracy:
        return ""
    before, after = accuracy["FP32"], list(accuracy.values())[-1]
    if before - after <= max_drop:
        return ""
    return f"the integers lose {before - after:.4f} ({1 - after / before:.1%}), more than the {max_drop:g} allowed"
