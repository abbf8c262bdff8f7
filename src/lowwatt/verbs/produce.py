"""produce: the whole road in one folder, stage by stage, each leaving the file that its own verb would leave."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.compiler.rules import check
from lowwatt.data.splits import open_splits
from lowwatt.errors import ToolError
from lowwatt.evaluate.report import EpochRow, Report, write_html
from lowwatt.files import exclusive, write_text
from lowwatt.ranks import rank, world
from lowwatt.recipe import Recipe
from lowwatt.targets import load_target
from lowwatt.verbs.compile import untrained_graph
from lowwatt.verbs.data import calibration_batches
from lowwatt.verbs.export import export_graph
from lowwatt.verbs.quantize import ProgressFactory, on_stage, quantize_on, scheme_of, stages_of, verdict

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.ir.graph import Graph
    from lowwatt.models.checkpoint import Model
    from lowwatt.quant import QuantReport
    from lowwatt.verbs.yardstick import Score, Yardstick

PROOF_IMAGES = 4
NO_TARGET = "none"


class Road:
    """One production run in the folder `out`.

    `listener` takes a line of text for each finished stage, `progress(title)` makes an object with
    start(total), update(done, info) and finish().
    """

    def __init__(
        self, recipe: Recipe, out: Path, *, listener: Callable[[str], None], progress: ProgressFactory
    ) -> None:
        self.recipe, self.out, self.listener, self.progress = recipe, out, listener, progress
        self.model_path = out / "model.safetensors"
        self.accuracy: dict[str, Score] = {}
        self.exports: dict[str, dict[str, Any]] = {}
        self.warning = ""
        """Empty, or that there was nothing to lose by INT8."""
        self._notes: dict[str, str] = {}

    @cached_property
    def training_data(self) -> Any:
        """Training split: CocoData, ClassData or MaskData, by the recipe's task."""
        return open_splits(self.recipe, ("train",))[0]

    @cached_property
    def validation_data(self) -> Any:
        """Validation split."""
        return open_splits(self.recipe, ("val",))[0]

    def yardstick(self, graph: Graph) -> Yardstick:
        """What a network of the recipe's task is measured by, on its data."""
        from lowwatt.verbs.yardstick import yardstick_of

        return yardstick_of(graph, lambda: self.training_data, lambda: self.validation_data)

    def produce(self, resume: bool = False) -> Report:
        """Drive every stage; returns the report, which is also on disk as report.json and report.html."""
        if world() > 1:
            raise ToolError("produce runs in one process", hint="torchrun is for `lowwatt train`; then produce with "
                            "train.epochs=0 and model.init set to its model.safetensors")  # fmt: skip
        self._refuse_scheme()
        with exclusive(self.out):
            write_text(self.out / "recipe.yaml", self.recipe.to_yaml())
            self._refuse_unrunnable()
            model = self._stage("train", lambda: self._train(resume))
            report = self._stage("quantize", lambda: self.quantize(model))
            self._stage("export", lambda: self.export(report))
            program = self._stage("compile", lambda: self.compile(report))
            self._stage("run", lambda: self.measure(report))
            page: Report = self._stage("report", lambda: self.report(report, program))
            return page

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        self.listener(f"{name:9} {time.monotonic() - began:6.1f} s  {self._notes.get(name, '')}")
        return result

    def _refuse_scheme(self) -> None:
        scheme = scheme_of(self.recipe.quant)
        if scheme.legality != "dpu":
            hint = "quant.scheme=vitis; for other targets use `lowwatt quantize --scheme` and `lowwatt export`"
            raise ToolError(f"produce compiles for a DPU, which has no integers of {scheme.name}", hint=hint)

    def _refuse_unrunnable(self) -> None:
        """Before the first step: a network that the target cannot run is not worth training."""
        if self.recipe.target == NO_TARGET:
            return
        target = load_target(self.recipe.target)
        graph = untrained_graph(self.recipe, len(self.training_data.labels))
        host = [verdict for verdict in check(graph, target) if verdict.where != "dpu"]
        if host:
            raise ToolError(
                f"{len(host)} operators of this network do not run on {target.name}",
                where=f"{host[0].node} ({host[0].op})",
                why="; ".join(host[0].reasons),
                hint=f"{host[0].remedy}; `lowwatt check` lists them all; target=none trains for no machine",
            )

    def train(self, resume: bool = False) -> Model:
        """Train (or, at 0 epochs, take `model.init` as it is) and save the model; under torchrun in all processes."""
        first = rank() == 0
        with exclusive(self.out) if first else contextlib.nullcontext():
            self._refuse_unrunnable()
            return self._train(resume)

    def _train(self, resume: bool) -> Model:
        from lowwatt.models import checkpoint
        from lowwatt.training import train

        model = train(
            self.recipe,
            self.out / "train",
            data=(self.training_data, self.validation_data),
            resume=resume,
            progress=self.progress("train"),
        )
        if rank() == 0:
            checkpoint.save(model, self.model_path)
        self._notes["train"] = f"{self.model_path.name}, {len(self.training_data)} images"
        return model

    def quantize(self, model: Model) -> QuantReport:
        """Capture the model and quantize it; both graphs are saved."""
        from lowwatt.ir import store
        from lowwatt.loading import graph_of

        graph = graph_of(model)
        store.save(graph, self.out / "float.lwg")
        batches = self.yardstick(graph).calibration(self.recipe.quant.images)
        report = quantize_on(graph, batches, self.recipe.quant, self.progress, self.recipe.target)
        store.save(report.quantized, self.out / "quantized.lwg")
        self._notes["quantize"] = f"{len(report.quantized.nodes)} nodes, {report.images} calibration images"
        if report.float_nodes:
            self._notes["quantize"] += f", {len(report.float_nodes)} nodes stay in float on the host"
        return report

    def export(self, report: QuantReport) -> None:
        """xmodel and ONNX QDQ, proved on real images."""
        from lowwatt.ir import meta

        batches = calibration_batches(self.validation_data, meta.preprocess(report.quantized), PROOF_IMAGES)
        name = report.quantized.inputs[0]
        samples = [{name: image[None]} for batch in batches for image in batch]
        files = {"xmodel": "model_int.xmodel", "qdq": "model_qdq.onnx"}
        if report.float_nodes:
            del files["xmodel"]  # the format has no float operators
        for format, file in files.items():
            self.exports[format] = export_graph(report.quantized, self.out / file, format, samples, self.recipe.target)
        self._notes["export"] = self.exports["qdq"]["proof"][0]
        if report.float_nodes:
            self._notes["export"] += f"; no xmodel: {len(report.float_nodes)} nodes are in float"

    def compile(self, report: QuantReport) -> Program:
        """Program for the recipe's target, in its schedule."""
        from lowwatt.compiler import compile as compile_graph

        program = compile_graph(report.quantized, self.recipe.target, self.recipe.schedule)
        program.save(self.out / "program.lwp")
        self._notes["compile"] = f"{program.latency_ms:.2f} ms on {program.target.name} (modelled)"
        return program

    def measure(self, report: QuantReport) -> None:
        """Accuracy of the three stages on the validation split; a detector's integers also give detections.json."""
        yardstick = self.yardstick(report.quantized)
        for stage in stages_of(report):
            self.accuracy[stage] = yardstick.score(*on_stage(report, stage), self.progress(stage))
        self.warning = yardstick.warning(self.accuracy["FP32"])
        if self.recipe.task == "detection":
            self._write_detections()
        told = [f"{stage} {score.value:.3f}" for stage, score in self.accuracy.items()]
        self._notes["run"] = "  ".join([*([] if yardstick.name == "AP" else [yardstick.name]), *told])

    def _write_detections(self) -> None:
        """What the integers found, in COCO's format."""
        from lowwatt.evaluate.coco import to_coco

        rows = to_coco(self.accuracy["integer"].found, self.validation_data.category_ids)
        write_text(self.out / "detections.json", json.dumps(rows))

    @property
    def verdict(self) -> str:
        """Empty, or why the run is not good: more accuracy lost than the recipe allows."""
        return verdict({stage: score.value for stage, score in self.accuracy.items()}, self.recipe.quant.max_drop)

    def report(self, quantization: QuantReport, program: Program) -> Report:
        """Gather everything into report.json and report.html."""
        from lowwatt.verbs.gather import gather

        report = gather(self, quantization, program)
        report.save(self.out / "report.json")
        write_html(report, self.out / "report.html")
        return report

    def training_rows(self) -> list[EpochRow]:
        """Rows of the training log; none where nothing was trained."""
        from lowwatt.training.log import read_log
        from lowwatt.training.tasks import TASKS

        path, metric = self.out / "train" / "log.csv", TASKS[self.recipe.task].metrics[0]
        rows = read_log(path) if path.is_file() else []
        return [EpochRow(int(row["epoch"] or 0), row["loss"], row[metric]) for row in rows]
