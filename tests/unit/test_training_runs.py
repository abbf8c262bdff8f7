"""Runs that are cut short, shared by processes, or cannot go on: nothing is lost, and what went wrong is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file  # noqa: E402

from lowwatt.data.coco import CocoData, read_coco  # noqa: E402
from lowwatt.data.sample import make_sample  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.recipe import Recipe  # noqa: E402
from lowwatt.training import train  # noqa: E402
from lowwatt.training.detection import DetectionTask  # noqa: E402
from lowwatt.training.log import Silent, read_log  # noqa: E402
from lowwatt.training.loop import Trainer, run  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402

SCRIPT = """
import os, shutil, sys
from pathlib import Path
import torch
from lowwatt.data.coco import read_coco
from lowwatt.recipe import load_recipe
from lowwatt.training import train
from lowwatt.training.detection import DetectionTask
from lowwatt.training.log import Silent
from lowwatt.training.sync_norm import synchronised
folder, recipe, out, resume = sys.argv[1:]
data = tuple(read_coco(Path(folder) / f"{split}.json", Path(folder) / "images") for split in ("train", "val"))
if os.environ["WORLD_SIZE"] == "1":  # torch's own batch norm sums in float32, ours in float64
    torch.distributed.init_process_group("gloo")
    build = DetectionTask.build
    DetectionTask.build = lambda task: synchronised(build(task), torch.device("cpu"))

class Keep(Silent):
    def update(self, done, info):
        if done == 3 and "row" not in info:
            shutil.copy(Path(out) / "last.ckpt", Path(out) / "middle.ckpt")

train(load_recipe(recipe), out, data=data, resume=resume == "resume", progress=Keep())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample") / "set", 16, 6, 64)


@pytest.fixture(scope="module")
def data(folder: Path) -> tuple[CocoData, CocoData]:
    return read_coco(folder / "train.json", folder / "images"), read_coco(folder / "val.json", folder / "images")


def recipe_of(**settings) -> Recipe:
    base = {"epochs": 3, "batch": 4, "plain_epochs": 1, "warmup_epochs": 1, "eval_every": 2, "threads": 1, "seed": 3}
    return Recipe.model_validate(
        {
            "model": {"width": 0.125, "size": 64},
            "train": {**base, "ema_ramp": 10, "device": "cpu", "precision": "fp32", **settings},
        }
    )


class StopAt(Silent):
    """Sends the process a signal after some step, or raises."""

    def __init__(self, step: int, signal_number: int = 0) -> None:
        self.step, self.signal = step, signal_number

    def update(self, done: int, info) -> None:
        if done == self.step and "row" not in info:
            if not self.signal:
                raise MemoryError("as good as kill -9")
            os.kill(os.getpid(), self.signal)


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (a, b))
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(recipe_of(), out, data=data, progress=Silent())
    return out


@pytest.mark.parametrize("step", [2, 6, 11])
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(tmp_path: Path, data, whole: Path, step: int) -> None:
    recipe = recipe_of(save_minutes=0)
    with pytest.raises(MemoryError):
        train(recipe, tmp_path, data=data, progress=StopAt(step))
    (tmp_path / ".half-written-last-x.ckpt").write_bytes(b"torn")
    train(recipe, tmp_path, data=data, resume=True, progress=Silent())
    assert same_weights(whole, tmp_path) and not list(tmp_path.glob(".*"))
    losses = [[row["loss"] for row in read_log(out / "log.csv")] for out in (whole, tmp_path)]
    assert losses[0] == losses[1]


def test_losses_read_a_step_late_are_the_same_losses(tmp_path: Path, data, whole: Path) -> None:
    """As on a GPU; a loss that is no number still ends the run before the weights that it spoilt are saved."""
    recipe = recipe_of(save_minutes=0)
    processes = Processes(recipe.train)
    trainer = Trainer(DetectionTask(recipe, *data, processes), processes, tmp_path / "a", Silent())
    trainer.reader.late = True
    run(trainer, resume=False)
    assert same_weights(whole, tmp_path / "a")
    losses = [[row["loss"] for row in read_log(out / "log.csv")] for out in (whole, tmp_path / "a")]
    assert losses[0] == losses[1]
    spoilt = Trainer(DetectionTask(recipe, *data, processes), processes, tmp_path / "b", Silent())
    spoilt.reader.late = True
    spoilt.task.loss = lambda *a: {"loss": next(spoilt.module.parameters()).sum() * torch.nan}  # type: ignore[method-assign]
    with pytest.raises(ToolError, match="the loss became"):
        run(spoilt, resume=False)
    assert not (tmp_path / "b/last.ckpt").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_it_came_in(tmp_path: Path, data, whole: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(recipe_of(), tmp_path, data=data, progress=StopAt(6, number))
    assert torch.load(tmp_path / "last.ckpt")["step"] == 2 and signal.getsignal(number) is before
    train(recipe_of(), tmp_path, data=data, resume=True, progress=Silent())
    assert same_weights(whole, tmp_path)


def start(folder: Path, recipe: Recipe, out: Path, processes: int, resume: bool = False) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "given.yaml").write_text(recipe.to_yaml())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    (out / "script.py").write_text(SCRIPT)
    words = [str(out / "script.py"), str(folder), str(out / "given.yaml"), str(out), "resume" if resume else "new"]
    done = subprocess.run([*torchrun, *words], capture_output=True, timeout=240, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_do_as_one(tmp_path: Path, folder: Path, whole: Path) -> None:
    """One step: later ones start from weights that differ in the last bit, which here decides between equal anchors; so
    it does at the first step of some seeds.
    """
    recipe = recipe_of(epochs=1, plain_epochs=0, warmup_epochs=0, batch=16, save_minutes=0, ema_ramp=1e-3, seed=1)
    recipe.train.optimizer, recipe.train.lr = "sgd", 1e-3  # AdamW makes whole steps of gradients that are next to zero
    recipe.model.init = str(whole / "model.safetensors")
    for processes in (1, 2):
        start(folder, recipe, tmp_path / str(processes), processes)
    rows = [read_log(tmp_path / str(processes) / "log.csv")[0] for processes in (1, 2)]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)
    before = load_file(recipe.model.init)
    one, two = (torch.load(tmp_path / str(n) / "last.ckpt")["module"] for n in (1, 2))
    for name, value in before.items():
        moved, apart = one[name] - torch.from_numpy(value).float(), two[name] - one[name]
        assert float(apart.norm()) <= 0.02 * float(moved.norm()) + 1e-6, name


@pytest.mark.slow
def test_two_processes_resume_in_the_middle_of_an_epoch(tmp_path: Path, folder: Path) -> None:
    recipe = recipe_of(epochs=1, plain_epochs=0, save_minutes=0)
    start(folder, recipe, tmp_path / "whole", 2)
    start(folder, recipe, tmp_path / "parts", 2)
    (tmp_path / "parts/model.safetensors").unlink()
    state = torch.load(tmp_path / "parts/middle.ckpt")
    assert state["step"] == 2 and len(state["random"]) == 2
    (tmp_path / "parts/middle.ckpt").replace(tmp_path / "parts/last.ckpt")
    start(folder, recipe, tmp_path / "parts", 2, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def trainer_of(recipe: Recipe, data, out: Path) -> Trainer:
    processes = Processes(recipe.train)
    return Trainer(DetectionTask(recipe, *data, processes), processes, out, Silent())


def test_out_of_memory_says_what_fits(tmp_path: Path, data) -> None:
    trainer = trainer_of(recipe_of(batch=8), data, tmp_path)
    plain = trainer.forward

    def hungry(images):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(images)

    trainer.forward = hungry
    with pytest.raises(ToolError, match="out of memory with 8 images") as error:
        run(trainer, resume=False)
    assert "train.batch=2 fits" in (error.value.hint or "")


def test_other_errors_of_a_step_stay_what_they_are(tmp_path: Path, data) -> None:
    trainer = trainer_of(recipe_of(), data, tmp_path)

    def broken(images):
        raise RuntimeError("shapes do not match")

    trainer.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(trainer, resume=False)


def test_a_loss_that_is_no_number_names_the_images(tmp_path: Path, data) -> None:
    with pytest.raises(ToolError, match="the loss became") as error:
        train(recipe_of(lr=1e30, warmup_epochs=0), tmp_path, data=data, progress=Silent())
    assert data[0].images[0].path.suffix in (error.value.why or "")


def test_frozen_parts_stay(tmp_path: Path, data) -> None:
    start_ = train(recipe_of(epochs=0), tmp_path / "start", data=data, progress=Silent()).module.state_dict()
    end = train(recipe_of(epochs=1, freeze=["backbone"]), tmp_path / "end", data=data, progress=Silent()).module
    moved = {name for name, value in end.state_dict().items() if not torch.equal(value, start_[name])}
    assert moved and not any(name.startswith("backbone.") for name in moved)


def test_an_unknown_part_is_not_frozen_silently(tmp_path: Path, data) -> None:
    with pytest.raises(ToolError, match="no part bakbone") as error:
        train(recipe_of(freeze=["bakbone"]), tmp_path, data=data, progress=Silent())
    assert "backbone" in (error.value.hint or "")


def test_clipped_gradients_move_less(tmp_path: Path, data) -> None:
    start_ = train(recipe_of(epochs=0), tmp_path / "start", data=data, progress=Silent()).module.state_dict()
    distances = []
    for clip in (0.0, 1e-3):
        end = train(recipe_of(epochs=1, clip=clip), tmp_path / str(clip), data=data, progress=Silent()).module
        learned = {name: value.detach() for name, value in end.named_parameters()}
        distances.append(sum(float((value - start_[name]).square().sum()) for name, value in learned.items()))
    assert 0 < distances[1] < 0.1 * distances[0]
