"""Courses of the learning rate that a recipe can choose."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from lowwatt.errors import ToolError
from lowwatt.recipe import TrainSettings, load_recipe
from lowwatt.training.schedule import Schedule


def _schedule(**settings) -> Schedule:
    base = {"lr": 1.0, "final_lr": 0.05, "epochs": 100, "warmup_epochs": 5, "plain_epochs": 10}
    return Schedule.of(TrainSettings.model_validate({**base, **settings}), batch=64, steps=10)


def test_flat_cosine_is_constant_for_half_of_the_epochs() -> None:
    schedule = _schedule(lr_schedule="flat-cosine")
    assert schedule.rate(25) == pytest.approx(0.25)
    assert {schedule.rate(step) for step in (50, 200, 500)} == {1.0}
    assert schedule.rate(700) == pytest.approx(0.05 + 0.95 / 2)  # half of the way from 500 to 900
    assert schedule.rate(899) == pytest.approx(0.05, abs=1e-3)
    assert {schedule.rate(step) for step in (900, 999)} == {0.05}


def test_multistep_falls_tenfold_down_to_the_least_rate() -> None:
    schedule = _schedule(lr_schedule="multistep", lr_steps=[0.6, 0.8])
    found = [schedule.rate(step) for step in (50, 599, 600, 799, 800, 999)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.05, 0.05])


def test_a_shortened_course_keeps_its_form() -> None:
    short = _schedule(lr_schedule="flat-cosine").shortened(20)
    assert {short.rate(step) for step in (10, 60, 100)} == {1.0}
    assert short.rate(140) == pytest.approx(0.05 + 0.95 / 2)


def test_an_unknown_course_is_refused() -> None:
    with pytest.raises(ToolError, match=r"train\.lr_schedule"):
        load_recipe(None, ["train.lr_schedule=linear"])
