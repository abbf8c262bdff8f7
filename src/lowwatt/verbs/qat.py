"""qat: a trained model fine-tuned on the integers of its target, with accuracy before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.files import exclusive
from lowwatt.recipe import load_recipe
from lowwatt.verbs.quantize import ProgressFactory, on_stage, stages_of, verdict

if TYPE_CHECKING:
    from lowwatt.models.checkpoint import Model


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
    """Fine-tune, write, and measure: {model, quantized, measure, accuracy by stage, verdict}.

    FP32 is the network as it came: what fine-tuning gained counts for the integers.

    OUT holds model.safetensors (float weights under the user's own names), quantizers.safetensors, quantized.lwg, the
    log, and last.ckpt, from which --resume goes on.
    """
    from lowwatt.loading import graph_of, load
    from lowwatt.models.checkpoint import Model
    from lowwatt.quant.qat_training import train_qat
    from lowwatt.verbs.dry_run import dry_run
    from lowwatt.verbs.yardstick import yardstick_for

    model = load(job.file)
    if not isinstance(model, Model):
        raise ToolError("QAT trains a model", where=str(job.file), hint="give the .safetensors of `lowwatt train`")
    settings = load_recipe(None, _checked(job.overrides)).qat
    before = graph_of(model)
    for line in dry_run(before, settings.scheme):
        tell(line)
    data, yardstick = _data(model, job.root), yardstick_for(before, job.root)
    with exclusive(job.out):
        result = train_qat(model, job.out, settings, data=data, resume=job.resume, progress=progress("qat"))
    original = replace(result.report, floating=before)
    accuracy = {
        stage: yardstick.measure(*on_stage(original, stage), progress(stage)) for stage in stages_of(result.report)
    }
    return {
        "model": str(job.out / "model.safetensors"),
        "quantized": str(job.out / "quantized.lwg"),
        "measure": yardstick.name,
        "accuracy": accuracy,
        "verdict": verdict(accuracy, job.max_drop),
    }


def _checked(overrides: Sequence[str]) -> Sequence[str]:
    """Settings of the `qat` section only: others would be passed over."""
    for text in overrides:
        if not text.startswith("qat."):
            raise ToolError("the model's own recipe holds here, but for qat", where=text, hint="write qat.key=value")
    return overrides


def _data(model: Model, root: str) -> tuple[Any, ...]:
    """Both splits with the model's classes."""
    from lowwatt.data.splits import open_splits

    settings = model.recipe.data.model_copy(update={"root": root, "classes": list(model.labels)})
    return open_splits(model.recipe.model_copy(update={"data": settings}))
