"""QAT of a trained detector: the ordinary training loop over a fake-quantized network, short and at a small rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lowwatt.capture import capture_model
from lowwatt.data import open_data
from lowwatt.data.coco import CocoData
from lowwatt.data.loader import Batch
from lowwatt.files import write_bytes
from lowwatt.ir import store
from lowwatt.ir.graph import Graph
from lowwatt.models.checkpoint import Model
from lowwatt.models.yolox import build_model
from lowwatt.quant.executor import TorchExecutor
from lowwatt.quant.oscillation import Freezer
from lowwatt.quant.ptq import QuantReport
from lowwatt.quant.qat import PREFIX, QatModule, prepare
from lowwatt.recipe import QatSettings, Recipe
from lowwatt.training.log import Lines, Progress
from lowwatt.training.loop import Trainer, optimizer_of
from lowwatt.training.loss import Losses
from lowwatt.training.schedule import Schedule
from lowwatt.training.state import load_state
from lowwatt.types import Array

if TYPE_CHECKING:
    from lowwatt.evaluate.coco import Ap


@dataclass(frozen=True, slots=True)
class QatResult:
    """The float model with its trained weights, and the quantization that was trained with them."""

    model: Model
    report: QuantReport


def train_qat(
    model: Model,
    out: str | Path,
    settings: QatSettings | None = None,
    *,
    data: tuple[CocoData, CocoData] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> QatResult:
    """Fine-tune a trained model on the integers of a scheme; the best by AP of the fake-quantized average is kept.

    Writes to the folder `out`: model.safetensors (the user's own names, float32), quantizers.safetensors (scales and
    thresholds), quantized.lwg, recipe.yaml, log.csv, last.ckpt. `settings` defaults to the recipe's `qat`; `data` is
    (train, val) where it is not to be read from the recipe. `resume` continues an interrupted run exactly, from its
    last whole epoch.

    >>> result = train_qat(load("model.safetensors"), "runs/qat")  # doctest: +SKIP
    """
    recipe = qat_recipe(model.recipe, settings or model.recipe.qat)
    splits = data if data is not None else tuple(open_data(recipe.data))
    trainer = QatTrainer(model, recipe, splits[0], splits[1], Path(out), progress or Lines())
    if resume:
        trainer.resume()
    else:
        (Path(out) / "last.ckpt").unlink(missing_ok=True)
    kept = trainer.run()
    return QatResult(kept, trainer.best_report())


def qat_recipe(recipe: Recipe, settings: QatSettings) -> Recipe:
    """The recipe whose training section is that of the fine-tuning: whole images at the model's size, AdamW."""
    changes: dict[str, Any] = {
        "epochs": settings.epochs,
        "lr": settings.lr,
        "optimizer": "adamw",
        "warmup_epochs": settings.warmup_epochs,
        "plain_epochs": 0,
        "multiscale": (1.0, 1.0),
        "ema": 0.998,
        "ema_ramp": 100.0,
        "eval_every": 1,
        "minutes": 0.0,
    }
    train = recipe.train.model_copy(update=changes)
    return recipe.model_copy(update={"train": train, "qat": settings})


class _Plain(Schedule):
    """Whole images, with the L1 loss, from the first epoch."""

    def plain(self, epoch: int) -> bool:
        """Always."""
        return True


class QatTrainer(Trainer):
    """The training loop with a fake-quantized network, a teacher, and weights that freeze."""

    half = False  # float16 weights would round to other integers
    module: QatModule

    def __init__(
        self, model: Model, recipe: Recipe, train: CocoData, val: CocoData, out: Path, progress: Progress
    ) -> None:
        self.source, self.qat = model, recipe.qat
        super().__init__(recipe, train, val, out, progress)
        self.schedule = self.full_schedule = _Plain.of(self.settings, self.loader.batch, self.loader.steps)
        self.freezer = Freezer(self.module, self.qat.freeze, self.qat.freeze_momentum) if self.qat.freeze else None
        self.teacher = Teacher(self.module.floating, self.qat.features, self.device) if self.qat.distill else None
        self._distance: torch.Tensor | None = None

    def resume(self) -> None:
        """Take up the state of an interrupted run, histories of weights too."""
        super().resume()
        if self.freezer is not None:
            self.freezer.load_state_dict(load_state(self.out / "last.ckpt")["freezer"])

    def best_report(self) -> QuantReport:
        """Quantization of the weights that were kept."""
        from safetensors.torch import load_file

        module = copy.deepcopy(self.ema.module)
        stored = {**load_file(self.out / "model.safetensors"), **load_file(self.out / "quantizers.safetensors")}
        module.load_state_dict(stored, strict=False)
        report: QuantReport = module.export()
        return report

    # -- what differs from plain training ---------------------------------------------------------------------

    def _build(self) -> nn.Module:
        network = copy.deepcopy(self.source.module)
        self.head = self.source.head
        prepared = prepare(capture_model(self.source), self._calibration(), self.qat.scheme)
        module = QatModule(network, prepared, self.qat.quantizer, self.qat.weights)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        return module.to(self.device, memory_format=torch.channels_last)

    def _calibration(self) -> Iterator[Array]:
        for index, batch in enumerate(self.loader.epoch(0, False)):
            if index * self.loader.batch >= self.qat.images:
                return
            yield batch.images.astype(np.float32)

    def _optimizer(self) -> torch.optim.Optimizer:
        return optimizer_of(groups(self.module, self.settings.weight_decay, self.qat.scale_rate), self.settings)

    def _epoch(self) -> None:
        self.module.set_live(self.epoch < self.qat.live_epochs)
        super()._epoch()

    def _step(self, batch: Batch, step: int, plain: bool) -> Losses:
        losses = super()._step(batch, step, plain)
        if self.freezer is not None:
            self.freezer.update()
        return losses

    def _forward(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        if self.teacher is None:
            return super()._forward(images)
        seen: dict[str, torch.Tensor] = {}
        outputs = self.module.observe(images, self.teacher.observer(seen))
        self._distance = self.teacher.distance(images, seen)
        return outputs

    def _loss(self, batch: Batch, plain: bool) -> Losses:
        losses = super()._loss(batch, plain)
        if self._distance is None:
            return losses
        return replace(losses, total=losses.total + self.qat.distill * self._distance)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "freezer": {} if self.freezer is None else self.freezer.state_dict()}

    def _keep(self, ap: Ap) -> None:
        from safetensors.torch import save

        if ap.ap < self.best:
            return
        super()._keep(ap)
        scales = {n: v.contiguous() for n, v in self.ema.module.state_dict().items() if n.startswith(PREFIX)}
        write_bytes(self.out / "quantizers.safetensors", save(scales))
        store.save(self.ema.module.export().quantized, self.out / "quantized.lwg")

    def _model(self, info: dict[str, Any]) -> Model:
        network = build_model(self.recipe.model, len(self.val.labels))
        network.load_state_dict(self.ema.module.float_state(), strict=True)
        return replace(self.source, module=network.eval(), recipe=self.recipe, info={**self.source.info, "qat": info})


class Teacher:
    """The float network, and how far the quantized one is from it: mean squared distance of the outputs, and with
    `features` of what the layers of the outputs read, each in units of the float values' own variance.
    """

    def __init__(self, floating: Graph, features: bool, device: torch.device) -> None:
        producers = floating.producers()
        self.names = list(floating.outputs)
        if features:
            self.names += dict.fromkeys(producers[name].inputs[0] for name in floating.outputs)
        constants = {t.name: torch.from_numpy(np.asarray(t.data)).to(device) for t in floating.constants()}
        self.executor = TorchExecutor(floating, {}, constants)

    def observer(self, seen: dict[str, torch.Tensor]) -> Any:
        """Keeps the tensors that are compared."""

        def keep(name: str, value: torch.Tensor) -> None:
            if name in self.names:
                seen[name] = value

        return keep

    def distance(self, images: torch.Tensor, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum over the tensors; NCHW images."""
        goal: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            self.executor({self.executor.graph.inputs[0]: images.permute(0, 2, 3, 1)}, self.observer(goal))
        return torch.stack([_relative(seen[name], goal[name]) for name in self.names]).sum()


def _relative(value: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Mean squared distance in units of the goal's variance, which counts as at least a hundredth of its power."""
    return (value - goal).square().mean() / torch.maximum(goal.var(), 0.01 * goal.square().mean()).clamp_min(1e-12)


def groups(module: QatModule, decay: float, scale_rate: float) -> list[dict[str, Any]]:
    """Parameter groups: weights decay, the rest does not. Adam moves a number by about the rate, so a scale's rate is
    in proportion to the scale, in octaves; a threshold in log2 takes `scale_rate` itself.
    """
    table: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = 1.0
        if name.startswith(PREFIX):
            size = 1.0 if name.endswith("log2_threshold") else float(parameter.detach().abs().mean().clamp_min(1e-6))
            factor = scale_rate * 2.0 ** math.floor(math.log2(size))
        decayed = decay if parameter.ndim > 1 and factor == 1.0 else 0.0
        table.setdefault((decayed, factor), []).append(parameter)
    return [{"params": p, "weight_decay": d, "factor": f} for (d, f), p in table.items()]
