"""qat: a trained detector fine-tuned on the integers of its target, with accuracy before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.files import exclusive
from lowwatt.recipe import load_recipe
from lowwatt.verbs.quantize import ProgressFactory, measure_stage, stages_of, verdict

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData
    from lowwatt.ir.graph import Graph
    from lowwatt.models.checkpoint import Model
    from lowwatt.quant import QuantReport


@dataclass(frozen=True, slots=True)
class QatJob:
    """What `lowwatt qat` is asked: model, data set folder, folder to write, settings as `qat.key=value`."""

    file: Path
    root: str
    out: Path
    overrides: Sequence[str] = ()
    resume: bool = False
    max_drop: float = 0.05


def qat_file(job: QatJob, progress: ProgressFactory, tell: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune, write, and measure: {model, quantized, accuracy: AP by stage, verdict}.

    OUT holds model.safetensors (float weights under the user's own names), quantizers.safetensors, quantized.lwg, the
    log, and last.ckpt, from which --resume goes on.
    """
    from lowwatt.loading import graph_of, load
    from lowwatt.models.checkpoint import Model
    from lowwatt.quant.qat_training import train_qat
    from lowwatt.verbs.dry_run import dry_run

    model = load(job.file)
    if not isinstance(model, Model):
        raise ToolError("QAT trains a model", where=str(job.file), hint="give the .safetensors of `lowwatt train`")
    model.detection()  # QAT is theirs
    settings = load_recipe(None, _checked(job.overrides)).qat
    before = graph_of(model)
    for line in dry_run(before, settings.scheme):
        tell(line)
    data = _data(model, job.root)
    with exclusive(job.out):
        result = train_qat(model, job.out, settings, data=data, resume=job.resume, progress=progress("qat"))
    accuracy = _accuracy(before, result.report, data[1], progress)
    return {
        "model": str(job.out / "model.safetensors"),
        "quantized": str(job.out / "quantized.lwg"),
        "accuracy": accuracy,
        "verdict": verdict(accuracy, job.max_drop),
    }


def _checked(overrides: Sequence[str]) -> Sequence[str]:
    """Settings of the `qat` section only: others would be passed over."""
    for text in overrides:
        if not text.startswith("qat."):
            raise ToolError("the model's own recipe holds here, but for qat", where=text, hint="write qat.key=value")
    return overrides


def _data(model: Model, root: str) -> tuple[CocoData, CocoData]:
    """Both splits with the model's classes."""
    from lowwatt.data import open_data

    settings = model.recipe.data.model_copy(update={"root": root, "classes": list(model.labels)})
    train, val = open_data(settings)
    return train, val


def _accuracy(before: Graph, report: QuantReport, data: CocoData, progress: ProgressFactory) -> dict[str, float]:
    """FP32 is the network as it came: what fine-tuning gained counts for the integers."""
    original = replace(report, floating=before)
    return {stage: measure_stage(original, stage, data, progress)[0].ap for stage in stages_of(report)}
