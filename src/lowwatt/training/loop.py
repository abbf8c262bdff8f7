"""The training loop: from a recipe to the averaged weights that did best on the validation split."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lowwatt.data import open_data
from lowwatt.data.coco import CocoData
from lowwatt.data.loader import Batch, TrainLoader
from lowwatt.errors import ToolError
from lowwatt.evaluate.coco import Ap, coco_ap
from lowwatt.files import write_text
from lowwatt.models.checkpoint import Model, load, load_weights, save
from lowwatt.models.yolox import build_model, head_of, preprocess_of
from lowwatt.recipe import Recipe, TrainSettings, load_recipe
from lowwatt.training.ema import Ema
from lowwatt.training.evaluate import predict
from lowwatt.training.log import CsvLog, Lines, Progress
from lowwatt.training.loss import Losses, detection_loss, flatten, pad_targets
from lowwatt.training.schedule import Schedule, TimeLimit
from lowwatt.training.state import load_state, save_state

_TRIAL_STEPS = 8  # after so many steps of the first epoch a time limit plans for the first time
_EVALUATION_COST = 0.5  # of training on the same pixels
_BETA2 = 0.95  # gradients shrink tenfold in a short run; 0.999 would remember the first ones throughout
_PARTS = ("total", "iou", "cls", "obj", "l1")


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    data: tuple[CocoData, CocoData] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Train a recipe (or the path of one, with `key=value` overrides) and return the best averaged weights.

    Writes to the folder `out`: model.safetensors (best on val so far), recipe.yaml, log.csv, last.ckpt. `data` is
    (train, val) where it is not to be read from the recipe. `resume` continues an interrupted run exactly, from its
    last whole epoch. With `train.minutes` the schedule is shortened to end in time; such a run depends on the
    machine's speed.

    Raises ToolError for a faulty recipe or data set, and where the loss is no longer a number.

    >>> model = train("recipes/demo.yaml", "runs/demo", overrides=["train.epochs=2"])  # doctest: +SKIP
    """
    settings = recipe if isinstance(recipe, Recipe) and not overrides else _load(recipe, overrides)
    splits = data if data is not None else tuple(open_data(settings.data))
    with _threads(settings.train.threads):
        trainer = Trainer(settings, splits[0], splits[1], Path(out), progress or Lines())
        if resume:
            trainer.resume()
        else:
            (Path(out) / "last.ckpt").unlink(missing_ok=True)  # a later --resume must not take up an older run
        return trainer.run()


def _load(recipe: Recipe | str | Path, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        raise ToolError("overrides go with the path of a recipe", hint="change the Recipe object instead")
    return load_recipe(recipe, overrides)


class Trainer:
    """One run: network, average, optimiser, schedule, and the epoch reached.

    The network is anything that maps NCHW images to the head's outputs; `lowwatt.quant.qat_training` puts another in.
    """

    half = True
    """Whether model.safetensors holds float16."""

    def __init__(self, recipe: Recipe, train_data: CocoData, val: CocoData, out: Path, progress: Progress) -> None:
        self.recipe, self.val, self.out, self.progress = recipe, val, out, progress
        self.settings = recipe.train
        self.device = _device(self.settings)
        self.autocast, half = _autocast(self.settings, self.device)
        self.loader = TrainLoader(train_data, preprocess_of(recipe.model), self.settings)
        self.module = self._build()
        self.ema = Ema(self.module, self.settings.ema, self.settings.ema_ramp)
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.schedule = self.full_schedule = Schedule.of(self.settings, self.loader.batch, self.loader.steps)
        self.limit = TimeLimit(self.settings.minutes * 60) if self.settings.minutes else None
        self.epoch, self.elapsed, self.best, self.best_epoch = 0, 0.0, -1.0, 0
        self.log = CsvLog(out / "log.csv")

    def run(self) -> Model:
        """Train the epochs that are left."""
        write_text(self.out / "recipe.yaml", self.recipe.to_yaml())
        self.progress.start(self.schedule.epochs * self.schedule.steps)
        try:
            if self.schedule.epochs == 0:
                self._keep(self._evaluate())
            while self.epoch < self.schedule.epochs:
                self._epoch()
        finally:
            self.progress.finish()
        return load(self.out / "model.safetensors")

    def resume(self) -> None:
        """Take up the state of an interrupted run in the same folder."""
        state = load_state(self.out / "last.ckpt")
        if state["model_settings"] != self.recipe.model.model_dump() or state["labels"] != list(self.val.labels):
            raise ToolError(
                "cannot resume: the recipe's model or classes changed",
                where=str(self.out / "last.ckpt"),
                hint="start a new run in another folder, with model.init set to the old model.safetensors",
            )
        self.module.load_state_dict(state["module"])
        self.ema.module.load_state_dict(state["ema"])
        self.ema.step = state["ema_step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.elapsed = state["epoch"], state["elapsed"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if self.limit is not None:
            self.schedule = self.schedule.shortened(state["epochs"])
        self.log.rows = state["rows"]

    # -- one epoch ------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        plain, started = self.schedule.plain(self.epoch), time.perf_counter()
        self.module.train()
        sums, pixels, images = dict.fromkeys(_PARTS, 0.0), 0, 0
        for index, batch in enumerate(self.loader.epoch(self.epoch, not plain)):
            losses = self._step(batch, self.epoch * self.loader.steps + index, plain)
            for part in _PARTS:
                sums[part] += getattr(losses, part).item()
            pixels, images = pixels + math.prod(batch.images.shape[:3]), images + len(batch.images)
            if self.epoch == 0 and index == _TRIAL_STEPS:
                self._plan(pixels, time.perf_counter() - started, 0)
        seconds = time.perf_counter() - started
        self.elapsed += seconds
        self.epoch += 1
        if not plain:
            self._plan(pixels, seconds, self.epoch)
        self._end_epoch({part: total / self.loader.steps for part, total in sums.items()}, images / seconds)

    def _plan(self, pixels: int, seconds: float, done: int) -> None:
        """Where there is a time limit, fit the schedule to the speed just measured."""
        if self.limit is None:
            return
        self.limit.measure(pixels, seconds)
        every = self.settings.eval_every or self.schedule.epochs
        evaluation = _EVALUATION_COST * len(self.val) * self.recipe.model.size**2 / every
        work = (self.loader.pixels(True) + evaluation, self.loader.pixels(False) + evaluation)
        self.schedule = self.limit.choose(self.full_schedule, done, self.elapsed, work)

    def _step(self, batch: Batch, step: int, plain: bool) -> Losses:
        rate = self.schedule.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        losses = self._loss(batch, plain)
        value = losses.total.item()
        if not math.isfinite(value):
            raise ToolError(
                f"the loss became {value}",
                where=f"epoch {step // self.loader.steps + 1}, step {step + 1}",
                why=f"iou {losses.iou:.3g}, cls {losses.cls:.3g}, obj {losses.obj:.3g}, rate {rate:.3g}",
                hint="lower train.lr or raise train.warmup_epochs; --resume starts from the last whole epoch",
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(self.module)
        self._tell(step + 1, loss=value, lr=rate)
        return losses

    def _loss(self, batch: Batch, plain: bool) -> Losses:
        images = torch.from_numpy(batch.images).to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        images = images.contiguous(memory_format=torch.channels_last)
        targets = pad_targets(batch.boxes, batch.labels, self.device)
        with self.autocast:
            outputs = self._forward(images)
        height, width = batch.images.shape[1:3]
        return detection_loss(flatten(outputs, (height, width), self.head.strides), targets, l1=plain)

    def _forward(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        outputs: Sequence[torch.Tensor] = self.module(images)
        return outputs

    # -- evaluation and files -------------------------------------------------------------------------------

    def _end_epoch(self, losses: dict[str, float], speed: float) -> None:
        started = time.perf_counter()
        every, last = self.settings.eval_every, self.epoch == self.schedule.epochs
        ap = self._evaluate() if last or (every and self.epoch % every == 0) else None
        if ap is not None:
            self._keep(ap)
        self.elapsed += time.perf_counter() - started
        row = self._row(losses, speed, ap)
        self.log.add(row)
        save_state(self.out / "last.ckpt", self._state())
        self._tell(self.epoch * self.loader.steps, row=row)

    def _tell(self, done: int, **info: Any) -> None:
        total = self.schedule.epochs * self.loader.steps
        epoch = min(done // self.loader.steps + 1, self.schedule.epochs)
        self.progress.update(done, {"epoch": epoch, "epochs": self.schedule.epochs, "total": total, **info})

    def _row(self, losses: dict[str, float], speed: float, ap: Ap | None) -> dict[str, Any]:
        step = self.epoch * self.loader.steps
        return {
            "epoch": self.epoch,
            "step": step,
            "lr": self.schedule.rate(step - 1),
            "loss": losses["total"],
            **{part: losses[part] for part in _PARTS[1:]},
            "ap": "" if ap is None else ap.ap,
            "ap50": "" if ap is None else ap.ap50,
            "images_per_s": speed,
            "seconds": self.elapsed,
            "epochs_planned": self.schedule.epochs,
        }

    def _evaluate(self) -> Ap:
        preprocess = self.loader.preprocess
        return coco_ap(self.val, predict(self.ema.module, self.val, self.head, preprocess, device=self.device))

    def _keep(self, ap: Ap) -> None:
        """Write model.safetensors where the average did at least as well as before."""
        if ap.ap < self.best:
            return
        self.best, self.best_epoch = ap.ap, self.epoch
        info = {"epoch": self.epoch, "epochs": self.schedule.epochs, "ap": ap.ap, "ap50": ap.ap50}
        save(self._model(info), self.out / "model.safetensors", self.half)

    def _model(self, info: dict[str, Any]) -> Model:
        labels, ids = self.val.labels, self.val.category_ids
        return Model(self.ema.module, self.recipe, labels, ids, self.head, self.loader.preprocess, info)

    def _state(self) -> dict[str, Any]:
        """All that an interrupted run needs."""
        return {
            "model_settings": self.recipe.model.model_dump(),
            "labels": list(self.val.labels),
            "module": self.module.state_dict(),
            "ema": self.ema.module.state_dict(),
            "ema_step": self.ema.step,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "epochs": self.schedule.epochs,
            "elapsed": self.elapsed,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "rows": self.log.rows,
        }

    # -- building -------------------------------------------------------------------------------------------

    def _build(self) -> nn.Module:
        self.head = head_of(self.recipe.model, len(self.val.labels))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            module = build_model(self.recipe.model, len(self.val.labels))
        if self.recipe.model.init:
            load_weights(module, self.recipe.model.init)
        return module.to(self.device, memory_format=torch.channels_last)

    def _optimizer(self) -> torch.optim.Optimizer:
        return optimizer_of(parameter_groups(self.module, self.settings), self.settings)


def _device(settings: TrainSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ToolError("there is no CUDA device", where="train.device", hint="use train.device=auto or cpu")
    wanted = settings.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)


def _autocast(settings: TrainSettings, device: torch.device) -> tuple[Any, bool]:
    """The context of the forward pass, and whether gradients need scaling (float16)."""
    precision = settings.precision
    if precision == "auto":
        precision = "fp32" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if precision == "fp32":
        return contextlib.nullcontext(), False
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, kind), precision == "fp16"


def parameter_groups(module: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Weight decay on convolution weights only (not on biases and batch norm)."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]


def optimizer_of(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW. A group's `factor`, where it has one, multiplies the rate."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, _BETA2), fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's CPU threads for the time of a run; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
