"""The loop: schedule, averaging, resume, time limit, errors; and that it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.data.coco import read_coco  # noqa: E402
from lowwatt.data.sample import make_sample  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.recipe import Recipe, load_recipe  # noqa: E402
from lowwatt.training import evaluate_model, train  # noqa: E402
from lowwatt.training.ema import Ema  # noqa: E402
from lowwatt.training.log import read_log  # noqa: E402
from lowwatt.training.schedule import Schedule, TimeLimit  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_sample(tmp_path_factory.mktemp("sample") / "set", 16, 4, 64)
    return tuple(read_coco(folder / f"{split}.json", folder / "images") for split in ("train", "val"))


def _recipe(**settings) -> Recipe:
    base = {"epochs": 4, "batch": 4, "plain_epochs": 1, "warmup_epochs": 1, "eval_every": 2, "threads": 1, "seed": 3}
    return Recipe.model_validate(
        {"model": {"width": 0.125, "size": 64}, "train": {**base, "ema_ramp": 10, "device": "cpu", **settings}}
    )


class _Watch:
    """Counts, and may interrupt the run after some step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.total, self.steps, self.rows, self.finished, self.stop_at = 0, [], [], 0, stop_at

    def start(self, total: int) -> None:
        self.total = total

    def update(self, done: int, info) -> None:
        if "row" in info:
            self.rows.append(info["row"])
        else:
            self.steps.append(done)
        if done == self.stop_at and "row" not in info:
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.finished += 1


def _weights(module) -> list[np.ndarray]:
    return [value.numpy() for value in module.state_dict().values()]


def test_a_run_leaves_model_recipe_and_log(tmp_path: Path, data) -> None:
    watch = _Watch()
    model = train(_recipe(), tmp_path, data=data, progress=watch)
    kept = {"model.safetensors", "last.safetensors", "last.ckpt", "recipe.yaml", "environment.json", "tensorboard"}
    assert {p.name for p in tmp_path.iterdir()} == kept | {"log.csv", "log.jsonl", "status.json", "training.html"}
    assert (watch.total, watch.steps, watch.finished) == (16, list(range(1, 17)), 1)
    rows = read_log(tmp_path / "log.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["ap"] is not None for row in rows] == [False, True, False, True]
    assert rows[-1]["l1"] > 0 == rows[0]["l1"]
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert model.labels == data[1].labels and model.category_ids == data[1].category_ids
    assert evaluate_model(model, data[1]).ap == pytest.approx(model.info["ap"], abs=0.02)  # weights are float16


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, data) -> None:
    for name in ("a", "b"):
        train(_recipe(epochs=2), tmp_path / name, data=data, progress=_Watch())
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_resume_equals_an_uninterrupted_run(tmp_path: Path, data) -> None:
    whole = train(_recipe(), tmp_path / "whole", data=data, progress=_Watch())
    watch = _Watch(stop_at=10)
    with pytest.raises(KeyboardInterrupt):
        train(_recipe(), tmp_path / "parts", data=data, progress=watch)
    assert watch.finished == 1
    resumed = train(_recipe(), tmp_path / "parts", data=data, resume=True, progress=(rest := _Watch()))
    assert rest.steps == list(range(9, 17))  # from the last whole epoch
    assert all(map(np.array_equal, _weights(whole.module), _weights(resumed.module)))
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    timing = ("seconds", "images_per_s", "waited")
    assert [[(k, v) for k, v in row.items() if k not in timing] for row in logs[0]] == [
        [(k, v) for k, v in row.items() if k not in timing] for row in logs[1]
    ]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, data) -> None:
    train(_recipe(epochs=1), tmp_path, data=data, progress=_Watch())
    before = (tmp_path / "model.safetensors").read_bytes()
    train(_recipe(epochs=1), tmp_path, data=data, resume=True, progress=(watch := _Watch()))
    assert watch.steps == []
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_resume_refuses_what_does_not_fit(tmp_path: Path, data) -> None:
    with pytest.raises(ToolError, match="no run to resume"):
        train(_recipe(), tmp_path, data=data, resume=True, progress=_Watch())
    train(_recipe(epochs=1), tmp_path, data=data, progress=_Watch())
    other = _recipe()
    other.model.width = 0.25
    with pytest.raises(ToolError, match="model or classes changed"):
        train(other, tmp_path, data=data, resume=True, progress=_Watch())
    (tmp_path / "last.ckpt").write_bytes(b"PK broken")
    with pytest.raises(ToolError, match="cannot resume"):
        train(_recipe(), tmp_path, data=data, resume=True, progress=_Watch())


def test_a_loss_that_is_no_number_names_the_step(tmp_path: Path, data) -> None:
    with pytest.raises(ToolError, match="the loss became") as error:
        train(_recipe(lr=1e30, warmup_epochs=0), tmp_path, data=data, progress=_Watch())
    assert "epoch 1, step" in error.value.where


def test_zero_epochs_evaluate_the_start(tmp_path: Path, data) -> None:
    model = train(_recipe(epochs=0), tmp_path, data=data, progress=_Watch())
    assert model.info["epoch"] == 0


@pytest.mark.parametrize("settings", [{"optimizer": "adamw"}, {"precision": "bf16"}, {"mosaic": 0.5, "workers": 2}])
def test_other_settings_run(tmp_path: Path, data, settings) -> None:
    train(_recipe(epochs=1, plain_epochs=0, **settings), tmp_path, data=data, progress=(watch := _Watch()))
    assert math.isfinite(watch.rows[0]["loss"])


def test_starting_from_a_model_keeps_its_weights(tmp_path: Path, data) -> None:
    first = train(_recipe(epochs=1), tmp_path / "first", data=data, progress=_Watch())
    recipe = _recipe(epochs=0)
    recipe.model.init = str(tmp_path / "first" / "model.safetensors")
    second = train(recipe, tmp_path / "second", data=data, progress=_Watch())
    assert all(map(np.array_equal, _weights(first.module), _weights(second.module)))


def test_a_time_limit_shortens_the_schedule(tmp_path: Path, data) -> None:
    train(_recipe(epochs=5000, minutes=0.05), tmp_path, data=data, progress=(watch := _Watch()))
    assert 1 <= len(watch.rows) < 100
    assert watch.rows[-1]["epoch"] == watch.rows[-1]["epochs_planned"]


def test_schedule_is_the_published_one() -> None:
    """docs/training-recipe.md 2: quadratic warm-up of 5 epochs, cosine to 5 %, last 15 of 300 flat; lr .01 for 64."""
    winner = load_recipe(Path(__file__).parents[2] / "recipes/yolox_fpga_320.yaml").train
    schedule = Schedule.of(winner, batch=8, steps=100)
    assert schedule.peak == pytest.approx(0.01 * 8 / 64)
    assert schedule.rate(250) == pytest.approx(schedule.peak / 4)
    assert schedule.rate(500) == pytest.approx(schedule.peak)
    assert schedule.rate((5 + 280 // 2) * 100) == pytest.approx(schedule.peak * 0.525)
    assert {schedule.rate(step) for step in (28500, 29999)} == {schedule.peak * 0.05}
    assert [schedule.plain(epoch) for epoch in (284, 285, 299)] == [False, True, True]
    rates = [schedule.rate(step) for step in range(500, 28500, 50)]
    assert rates == sorted(rates, reverse=True)


def test_shortened_schedule_keeps_its_shape() -> None:
    schedule = Schedule.of(Recipe().train, 64, 100).shortened(100)
    assert (schedule.epochs, schedule.plain_epochs) == (100, 5)
    assert schedule.warmup_epochs == pytest.approx(5 / 3)
    assert Schedule.of(Recipe().train, 64, 100).shortened(900).epochs == 300


def test_time_limit_chooses_the_longest_schedule_that_fits() -> None:
    full = Schedule(1.0, 0.1, epochs=100, steps=1, warmup_epochs=0, plain_epochs=10)
    limit = TimeLimit(seconds=100)
    limit.measure(pixels=50, seconds=10)  # 0.2 s a pixel
    chosen = limit.choose(full, done=2, elapsed=20, pixels=(10, 40))  # 2 s and 8 s an epoch, 80 s left
    plain = chosen.plain_epochs
    assert 2 * (chosen.epochs - 2 - plain) + 8 * plain <= 80
    more = full.shortened(chosen.epochs + 1)
    assert 2 * (more.epochs - 2 - more.plain_epochs) + 8 * more.plain_epochs > 80
    assert limit.choose(full, done=7, elapsed=1000, pixels=(10, 40)).epochs == 7
    assert limit.choose(full, done=0, elapsed=1000, pixels=(10, 40)).epochs == 1


def test_ema_follows_the_rule() -> None:
    module = torch.nn.BatchNorm1d(1)
    ema = Ema(module, decay=0.9, ramp=2.0)
    expected = 1.0
    for step in range(1, 5):
        module.weight.data.fill_(step * 10.0)
        module.num_batches_tracked.fill_(step)
        ema.update(module)
        decay = 0.9 * (1 - math.exp(-step / 2))
        expected = decay * expected + (1 - decay) * step * 10
        assert float(ema.module.weight) == pytest.approx(expected, rel=1e-5)
    assert int(ema.module.num_batches_tracked) == 4
    assert not ema.module.weight.requires_grad


@pytest.mark.slow
def test_it_learns_to_find_boxes(tmp_path: Path) -> None:
    """From nothing to boxes around most digits, whatever their class; an untrained network scores 0."""
    folder = make_sample(tmp_path / "set", 48, 16, 96)
    splits = [_one_class(read_coco(folder / f"{s}.json", folder / "images")) for s in ("train", "val")]
    settings = {"epochs": 60, "batch": 8, "optimizer": "adamw", "lr": 0.08, "weight_decay": 0.05, "mosaic": 0.0}
    recipe = _recipe(**settings, plain_epochs=6, eval_every=0, ema=0.98, degrees=0.0, shear=0.0, flip=0.0)
    recipe.model.size = 96
    model = train(recipe, tmp_path / "run", data=tuple(splits), progress=_Watch())
    assert model.info["ap50"] > 0.4


def _one_class(data):
    from dataclasses import replace

    boxes = tuple(replace(b, label=np.zeros_like(b.label)) for b in data.boxes)
    return replace(data, boxes=boxes, labels=("digit",), category_ids=(1,))
