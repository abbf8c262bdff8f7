"""quantize: INT8 from a file, with accuracy before and after in the same command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.recipe import DataSettings, QuantSettings
from lowwatt.verbs.data import calibration_batches, open_split

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData
    from lowwatt.evaluate.coco import Ap
    from lowwatt.ir.graph import Graph
    from lowwatt.quant import QuantReport
    from lowwatt.types import Detections

STAGES = ("FP32", "fake-quant", "integer")
ProgressFactory = Callable[[str], Any]


def quantize_file(
    file: Path, root: str, out: Path, settings: QuantSettings, evaluate: bool, progress: ProgressFactory
) -> dict[str, Any]:
    """Quantize `file`, write `out`; {quantized, images, float: nodes by operator, accuracy: AP by stage}."""
    from lowwatt.ir import store
    from lowwatt.loading import load_graph

    data = DataSettings(root=root)
    graph = load_graph(file)
    if graph.is_quantized:
        raise ToolError("the graph is quantized already", where=str(file), hint="give the float graph or the model")
    report = quantize_on(graph, open_split(data, "train"), settings, progress)
    store.save(report.quantized, out)
    accuracy = {}
    if evaluate:
        split = open_split(data, "val")
        accuracy = {stage: measure_stage(report, stage, split, progress)[0].ap for stage in STAGES}
    return {"quantized": str(out), "images": report.images, "float": float_operators(report), "accuracy": accuracy}


def float_operators(report: QuantReport) -> dict[str, list[str]]:
    """Nodes that stay in float on the host, by operator."""
    table: dict[str, list[str]] = {}
    for node in report.float_nodes:
        table.setdefault(node.op, []).append(node.name)
    return table


def quantize_on(graph: Graph, data: CocoData, settings: QuantSettings, progress: ProgressFactory) -> QuantReport:
    """Quantize with calibration images of a split."""
    from lowwatt.ir import meta
    from lowwatt.quant import quantize

    bar = progress("quantize")
    bar.start(100)
    batches = calibration_batches(data, meta.preprocess(graph), settings.images)
    try:
        return quantize(
            graph,
            batches,
            scheme=settings.scheme,
            calibration=settings.calibration,
            effort=settings.effort,
            progress=lambda step, share: bar.update(round(100 * share), {"step": step}),
        )
    finally:
        bar.finish()


def measure_stage(
    report: QuantReport, stage: str, data: CocoData, progress: ProgressFactory
) -> tuple[Ap, list[tuple[int, Detections]]]:
    """AP of one stage: FP32 on onnxruntime, fake-quantized on torch, integers on the compiled core."""
    from lowwatt.quant.backend import TorchBackend
    from lowwatt.runtime import Engine
    from lowwatt.verbs.evaluate import CONF, IOU, MAX_DET, measure

    graph = report.floating if stage == "FP32" else report.quantized
    backend: Any = {"FP32": "onnxruntime", "integer": "core"}.get(stage) or TorchBackend(graph)
    engine = Engine(graph, backend, conf=CONF, iou=IOU, max_det=MAX_DET)
    return measure(engine, data, progress(stage))
