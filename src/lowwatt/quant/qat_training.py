"""QAT of a trained model: the ordinary training loop over a fake-quantized network, short and at a small rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lowwatt.capture import capture_model
from lowwatt.data.splits import open_splits
from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir import store
from lowwatt.ir.graph import Graph
from lowwatt.models.checkpoint import Model
from lowwatt.models.networks import build_network
from lowwatt.quant.executor import TorchExecutor
from lowwatt.quant.oscillation import Freezer
from lowwatt.quant.ptq import QuantReport
from lowwatt.quant.qat import PREFIX, QatModule, prepare
from lowwatt.recipe import DistillSettings, QatSettings, Recipe
from lowwatt.training.log import Lines, Progress
from lowwatt.training.loop import Trainer, run
from lowwatt.training.processes import Processes
from lowwatt.training.task import Task
from lowwatt.training.tasks import make_task
from lowwatt.types import Array

if TYPE_CHECKING:
    from lowwatt.evaluate.evidence import Evidence


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
    data: tuple[Any, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> QatResult:
    """Fine-tune a trained model of any task on the integers of a scheme; the best fake-quantized average by the task's
    own metric on val is kept.

    Writes to the folder `out`: model.safetensors (the user's own names, float32), quantizers.safetensors (scales and
    thresholds), quantized.lwg, recipe.yaml, log.csv, last.ckpt. `settings` defaults to the recipe's `qat`; `data` is
    (train, val) where it is not to be read from the recipe. `resume` continues an interrupted run exactly, from its
    last whole epoch.

    >>> result = train_qat(load("model.safetensors"), "runs/qat")  # doctest: +SKIP
    """
    recipe = qat_recipe(model.recipe, settings or model.recipe.qat)
    splits = data if data is not None else open_splits(recipe)
    trainer = qat_trainer(model, recipe, splits[0], splits[1], Path(out), progress or Lines())
    kept = run(trainer, resume)
    return QatResult(kept, best_report(trainer.ema.module, Path(out)))


def qat_trainer(model: Model, recipe: Recipe, train: Any, val: Any, out: Path, progress: Progress) -> Trainer:
    """The training loop over the fake-quantized network, in this process alone."""
    processes = Processes(recipe.train)
    if processes.world > 1:
        raise ToolError("QAT runs in one process", hint="start it without torchrun")
    return Trainer(QatTask(model, recipe, train, val, processes), processes, out, progress)


def best_report(module: QatModule, out: Path) -> QuantReport:
    """Quantization of the weights that were kept in the folder `out`, by a module of the same making."""
    from safetensors.torch import load_file

    module = copy.deepcopy(module)
    stored = {**load_file(out / "model.safetensors"), **load_file(out / "quantizers.safetensors")}
    module.load_state_dict(stored, strict=False)
    report: QuantReport = module.export()
    return report


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
        "norm_images": 0,
        "minutes": 0.0,
        "precision": "fp32",  # rounding to a target's steps needs more digits than bf16 has
    }
    train = recipe.train.model_copy(update=changes)
    return recipe.model_copy(update={"train": train, "distill": DistillSettings(), "qat": settings})


class QatTask(Task):
    """The model's own task on a fake-quantized network, with a teacher, and weights that freeze."""

    half = False  # float16 weights would round to other integers
    always_plain = True
    graphs = False  # observers and freezing weights look at values

    def __init__(self, model: Model, recipe: Recipe, train: Any, val: Any, processes: Processes) -> None:
        self.recipe, self.processes, self.source, self.qat = recipe, processes, model, recipe.qat
        self.task = make_task(recipe, train, val, processes)
        self.loader, self.parts, self.metrics = self.task.loader, self.task.parts, self.task.metrics
        self.freezer: Freezer | None = None
        self.teacher: Teacher | None = None

    def build(self) -> nn.Module:
        """The trained network on the integers of the scheme, calibrated on training images."""
        network = copy.deepcopy(self.source.module)
        prepared = prepare(capture_model(self.source), self._calibration(), self.qat.scheme)
        module = QatModule(network, prepared, self.qat.quantizer, self.qat.weights)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        if self.qat.freeze:
            self.freezer = Freezer(module, self.qat.freeze, self.qat.freeze_momentum)
        if self.qat.distill:
            self.teacher = Teacher(module.floating, self.qat.features, self.processes.device)
        return module

    def _calibration(self) -> Iterator[Array]:
        for index, batch in enumerate(self.loader.epoch(0, False)):
            if index * self.loader.batch >= self.qat.images:
                return
            yield batch.images.astype(np.float32)

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Scales and thresholds at rates of their own."""
        return groups(module, self.recipe.train.weight_decay, self.qat.scale_rate)

    def begin_epoch(self, module: nn.Module, epoch: int) -> None:
        """Batch norms live in the first epochs."""
        module.set_live(epoch < self.qat.live_epochs)
        if self.teacher is not None:
            module.watch(self.teacher.student)

    def loss(self, outputs: Any, images: torch.Tensor, batch: Any, plain: bool) -> dict[str, torch.Tensor]:
        """The task's losses, as in its plain epochs: the images are whole. With a teacher, the distance to it."""
        losses = self.task.loss(outputs, images, batch, plain)
        if self.teacher is not None:
            losses["loss"] = losses["loss"] + self.qat.distill * self.teacher.distance(images)
        return losses

    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """The task's metrics."""
        return self.task.evaluate(module, processes)

    def evidence(self) -> Evidence:
        """What there is to see of them."""
        return self.task.evidence()

    def work(self) -> float:
        """Input pixels of one evaluation."""
        return self.task.work()

    def identity(self) -> dict[str, Any]:
        """The task's network and classes."""
        return self.task.identity()

    def after_step(self) -> None:
        """Freeze what flips."""
        if self.freezer is not None:
            self.freezer.update()

    def state(self) -> dict[str, Any]:
        """Histories of weights."""
        return {} if self.freezer is None else self.freezer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Histories of weights."""
        if self.freezer is not None:
            self.freezer.load_state_dict(state)

    def keep(self, module: nn.Module, info: dict[str, Any], out: Path) -> None:
        """Weights, quantizers, and the integers that they make."""
        from safetensors.torch import save

        super().keep(module, info, out)
        scales = {n: v.contiguous() for n, v in module.state_dict().items() if n.startswith(PREFIX)}
        write_bytes(out / "quantizers.safetensors", save(scales))
        store.save(module.export().quantized, out / "quantized.lwg")

    def model(self, module: nn.Module, info: dict[str, Any]) -> Model:
        """The float network under the user's own names, as it came in, with the weights of now."""
        network = build_network(self.recipe, len(self.source.labels))
        network.load_state_dict(module.float_state(), strict=True)
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
        self._seen: dict[str, torch.Tensor] = {}

    def student(self, name: str, value: torch.Tensor) -> None:
        """Observer of the quantized network: keeps the tensors that are compared."""
        if name in self.names:
            self._seen[name] = value

    def distance(self, images: torch.Tensor) -> torch.Tensor:
        """Sum over the tensors of the student's last forward pass, which was on these NCHW images."""
        goal: dict[str, torch.Tensor] = {}

        def keep(name: str, value: torch.Tensor) -> None:
            if name in self.names:
                goal[name] = value

        with torch.no_grad():
            self.executor({self.executor.graph.inputs[0]: images.permute(0, 2, 3, 1)}, keep)
        seen, self._seen = self._seen, {}
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
