"""The training loop: from a recipe to the averaged weights that did best on the validation split."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowwatt.data.splits import open_splits
from lowwatt.errors import ToolError
from lowwatt.files import sweep
from lowwatt.models.checkpoint import Model, load, save
from lowwatt.recipe import Recipe, load_recipe
from lowwatt.training.draw import Upload, on_device
from lowwatt.training.ema import Ema
from lowwatt.training.graphs import Graphs
from lowwatt.training.guard import LossReader, memory_told
from lowwatt.training.interrupt import Interruption
from lowwatt.training.journal import Journal
from lowwatt.training.log import Lines, Progress, Silent
from lowwatt.training.norms import live_norms, measured_norms
from lowwatt.training.optimizer import freeze, optimizer_of, train_mode
from lowwatt.training.processes import Processes
from lowwatt.training.schedule import Schedule, TimeLimit
from lowwatt.training.state import load_state, random_state, save_state, set_random_state
from lowwatt.training.sync_norm import synchronised
from lowwatt.training.task import Batch, Task
from lowwatt.training.tasks import make_task

_TRIAL_STEPS = 8  # after so many steps of the first epoch a time limit plans for the first time
_EVALUATION_COST = 0.5  # of training on the same pixels


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    data: tuple[Any, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Train a recipe (or the path of one, with `key=value` overrides) and return the best averaged weights.

    Writes to the folder `out`: model.safetensors (best on val so far), recipe.yaml, log.csv, last.ckpt and what
    `lowwatt.training.journal` lists. `data` is (train, val) where it is not to be read from the recipe: CocoData,
    ClassData or MaskData, by `recipe.task`. `resume` continues an interrupted run exactly, from the step of its last
    save. With `train.minutes` the schedule is shortened to end in time; such a run depends on the machine's speed.
    Under torchrun all processes share each batch.

    Raises ToolError for a faulty recipe or data set, where the loss is no longer a number, and where memory runs out.

    >>> model = train("recipes/demo.yaml", "runs/demo", overrides=["train.epochs=2"])  # doctest: +SKIP
    """
    settings = recipe if isinstance(recipe, Recipe) and not overrides else _load(recipe, overrides)
    splits = data if data is not None else open_splits(settings)
    with _threads(settings.train.threads), torch.random.fork_rng(devices=[]):
        processes = Processes(settings.train)
        torch.manual_seed(settings.train.seed + processes.rank)  # dropout; a resumed run takes up the saved state
        task = make_task(settings, splits[0], splits[1], processes)
        return run(Trainer(task, processes, Path(out), progress or Lines()), resume)


def _load(recipe: Recipe | str | Path, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        raise ToolError("overrides go with the path of a recipe", hint="change the Recipe object instead")
    return load_recipe(recipe, overrides)


def run(trainer: Trainer, resume: bool) -> Model:
    """Train, from the start or from where the folder's interrupted run stands."""
    if trainer.processes.first:
        sweep(trainer.out)
    if resume:
        trainer.resume()
    elif trainer.processes.first:
        (trainer.out / "last.ckpt").unlink(missing_ok=True)  # a later --resume must not take up an older run
    return trainer.run()


class Trainer:
    """One run of a task: network, average, optimiser, schedule, and the step reached."""

    def __init__(self, task: Task, processes: Processes, out: Path, progress: Progress) -> None:
        self.task, self.processes, self.out = task, processes, out
        self.recipe, self.settings, self.loader = task.recipe, task.recipe.train, task.loader
        self.progress = progress if processes.first else Silent()
        self.module = task.build()
        freeze(self.module, self.settings.freeze)
        if processes.world > 1 and self.settings.sync_bn:
            self.module = synchronised(self.module, processes.device)
        self.module.to(processes.device, memory_format=torch.channels_last)
        self.ema = Ema(self.module, self.settings.ema, self.settings.ema_ramp)
        optimizer = optimizer_of(task.groups(self.module), self.settings)
        learner = task.learner(self.module)
        self.wrapped, self.optimizer = processes.setup(learner, optimizer)
        self.forward: Callable[[Tensor], Any] = self.wrapped
        if processes.device.type == "cuda":
            self.loader.send(Upload(processes.device, processes.alone))
        if processes.graphs and task.graphs:
            self.forward = Graphs(learner, processes.autocast, processes.alone)
        self.reader = LossReader(processes)
        self.schedule = self.full_schedule = Schedule.of(self.settings, self.loader.batch, self.loader.steps)
        self.limit = TimeLimit(self.settings.minutes * 60) if self.settings.minutes else None
        self.epoch, self.step, self.elapsed, self.best = 0, 0, 0.0, -1.0
        self.sums: dict[str, float] = {}
        self.journal = Journal(out, task, processes) if processes.first else None
        self.saved, self.interruption = time.monotonic(), Interruption()

    def run(self) -> Model:
        """Train the epochs that are left."""
        with self._watched(), self.interruption:
            if self.schedule.epochs == 0:
                self._keep(self.task.evaluate(self.ema.module, self.processes))
            while self.epoch < self.schedule.epochs:
                self._epoch()
        self.processes.agree(None)  # the file is whole
        return load(self.out / "model.safetensors")

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Progress and journal have a beginning and an end, however the run ends."""
        self.progress.start(self.schedule.epochs * self.schedule.steps)
        error: BaseException | None = None
        try:
            if self.journal is not None:
                self.journal.begin(self._done)
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            self.progress.finish()
            if self.journal is not None:
                self.journal.end(error)

    def resume(self) -> None:
        """Take up the state of an interrupted run in the same folder."""
        state = load_state(self.out / "last.ckpt", self.task.identity(), self.processes.world)
        self.module.load_state_dict(state["module"])
        self.ema.module.load_state_dict(state["ema"])
        self.ema.step = state["ema_step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.processes.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.elapsed = state["epoch"], state["step"], state["elapsed"]
        self.best, self.sums = state["best"], state["sums"]
        if self.limit is not None:
            self.schedule = self.schedule.shortened(state["epochs"])
        if self.journal is not None:
            self.journal.rows = state["rows"]
        self.task.load_state(state["task"])
        set_random_state(state["random"][self.processes.rank])

    # -- one epoch ------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        plain = self._plain(self.epoch)
        train_mode(self.module, norms=not (plain and self.settings.plain_norms == "frozen"))
        self.task.begin_epoch(self.module, self.epoch)
        began = before = time.perf_counter()
        pixels, images, first = 0.0, 0, self.step
        for batch in self.loader.epoch(self.epoch, not plain, self.step):
            self._add(self._step(batch, plain))
            pixels, images = pixels + math.prod(batch.images.shape[:3]), images + len(batch.images)
            now = time.perf_counter()
            self.elapsed, before = self.elapsed + now - before, now
            if self.epoch == 0 and self.step == _TRIAL_STEPS + 1:
                self._plan(pixels * self.processes.world, now - began, 0)
            if self.step < self.loader.steps:
                self._save_in_time()
        self._add(self.reader.rest())
        seconds = time.perf_counter() - began
        if not plain and first == 0:
            self._plan(pixels * self.processes.world, seconds, self.epoch + 1)
        speed = {"images_per_s": images * self.processes.world / seconds, "waited": self.loader.waited / seconds}
        self._end_epoch(speed)

    def _plan(self, pixels: float, seconds: float, done: int) -> None:
        """Where there is a time limit, fit the schedule to the speed just measured."""
        if self.limit is None:
            return
        self.limit.measure(pixels, seconds)
        every = self.settings.eval_every or self.schedule.epochs
        evaluation = _EVALUATION_COST * self.task.work() / every
        work = (self.loader.pixels(True) + evaluation, self.loader.pixels(False) + evaluation)
        chosen = self.limit.choose(self.full_schedule, done, self.elapsed, work)
        self.schedule = self.processes.agree(chosen)

    def _plain(self, epoch: int) -> bool:
        return self.task.always_plain or self.schedule.plain(epoch)

    @property
    def _done(self) -> int:
        """Steps of the whole run so far."""
        return self.epoch * self.loader.steps + self.step

    def _step(self, batch: Batch, plain: bool) -> dict[str, float]:
        rate = self.schedule.rate(self._done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        with memory_told(batch, lambda part: self._backward(part, plain)):
            losses = self._backward(batch, plain)
        values = self.reader(losses, f"epoch {self.epoch + 1}, step {self._done + 1}", list(batch.files), rate)
        if self.settings.clip:
            self.processes.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=self.settings.clip)
        self.optimizer.step()
        self.task.after_step()
        self.ema.update(self.module)
        self.step += 1
        best = {self.task.metrics[0]: self.best} if self.best >= 0 else {}
        known = {"loss": values["loss"]} if values else {}
        self._tell(**known, lr=rate, **best)
        return values

    def _add(self, losses: Mapping[str, float]) -> None:
        self.sums |= {name: self.sums.get(name, 0.0) + value for name, value in losses.items()}

    def _backward(self, batch: Batch, plain: bool) -> dict[str, Tensor]:
        """Losses of a batch, their gradients in the module's parameters."""
        images = self._pixels(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.task.loss(self.forward(images), images, batch, plain)
        self.processes.fabric.backward(losses["loss"])
        return losses

    def _pixels(self, batch: Batch) -> Tensor:
        images = on_device(batch.images, self.processes.device)
        return images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)

    def _save_in_time(self) -> None:
        """Save where the last save is `save_minutes` ago, and where the user wants to stop."""
        due = time.monotonic() - self.saved >= 60 * self.settings.save_minutes
        reports = self.processes.gather((due, self.interruption.asked))
        stop = any(asked for _, asked in reports)
        if reports[0][0] or stop:
            self._save()
        if stop:
            raise KeyboardInterrupt

    # -- evaluation and files -------------------------------------------------------------------------------

    def _end_epoch(self, speed: dict[str, float]) -> None:
        began = time.perf_counter()
        losses = {name: total / self.loader.steps for name, total in self.sums.items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        every, last = self.settings.eval_every, self.epoch == self.schedule.epochs
        metrics: dict[str, float] = {}
        if last or (every and self.epoch % every == 0):
            with measured_norms(self.ema.module, live_norms(self.module), self._seen_images(), self.processes):
                metrics = self.task.evaluate(self.ema.module, self.processes)
                self._keep(metrics)
                self._keep_last(metrics)
        self.elapsed += time.perf_counter() - began
        rate = self.schedule.rate(self._done - 1)
        planned = {"seconds": self.elapsed, "epochs_planned": self.schedule.epochs}
        row = {"epoch": self.epoch, "step": self._done, "lr": rate, **losses, **metrics, **speed, **planned}
        if self.journal is not None:
            self.journal.epoch(row, self.schedule.epochs)
        self._save()
        self._tell(row=row)
        if self.interruption.asked and not last:
            raise KeyboardInterrupt

    def _seen_images(self) -> Iterator[Tensor]:
        """`norm_images` of the images of the epoch that has ended, augmented as they were, in batches (NCHW)."""
        for index, batch in enumerate(self.loader.epoch(self.epoch - 1, not self._plain(self.epoch - 1))):
            if index * self.loader.batch >= self.settings.norm_images:
                return
            yield self._pixels(batch)

    def _tell(self, **info: Any) -> None:
        total = self.schedule.epochs * self.loader.steps
        epoch = min(self._done // self.loader.steps + 1, self.schedule.epochs)
        news = {"epoch": epoch, "epochs": self.schedule.epochs, "total": total, **info}
        self.progress.update(self._done, news)
        if self.journal is not None and "row" not in info:
            self.journal.step(self._done, news)

    def _keep(self, metrics: dict[str, float]) -> None:
        """Write the weights where the average did at least as well as before."""
        score = metrics[self.task.metrics[0]]
        if score < self.best:
            return
        self.best = score
        if self.processes.first:
            self.task.keep(self.ema.module, self._info(metrics), self.out)

    def _keep_last(self, metrics: dict[str, float]) -> None:
        """Write the average as it stands, good or not."""
        if self.processes.first:
            save(self.task.model(self.ema.module, self._info(metrics)), self.out / "last.safetensors", self.task.half)

    def _info(self, metrics: dict[str, float]) -> dict[str, Any]:
        return {"epoch": self.epoch, "epochs": self.schedule.epochs, **metrics}

    def _save(self) -> None:
        self._add(self.reader.rest())  # weights that a loss has spoilt are not kept
        random = self.processes.gather(random_state())
        if self.journal is not None:
            save_state(self.out / "last.ckpt", self._state(random, self.journal.rows))
        self.saved = time.monotonic()

    def _state(self, random: list[dict[str, Tensor]], rows: list[dict[str, Any]]) -> dict[str, Any]:
        """All that an interrupted run needs."""
        return {
            "identity": self.task.identity(),
            "world": self.processes.world,
            "module": self.module.state_dict(),
            "ema": self.ema.module.state_dict(),
            "ema_step": self.ema.step,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.processes.scaler.state_dict(),
            "task": self.task.state(),
            "random": random,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "epochs": self.schedule.epochs,
            "elapsed": self.elapsed,
            "best": self.best,
            "rows": rows,
        }


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
