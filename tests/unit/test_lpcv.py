"""The published rows (docs/training-recipe.md 3) against the score's formula and the energy model."""

from __future__ import annotations

import pytest

import lowwatt
from lowwatt.errors import ToolError
from lowwatt.evaluate import score
from lowwatt.evaluate.lpcv import energy_model
from lowwatt.targets import load_target
from lpcv2021 import DO_NOT_FOLLOW, MEASURED_HERE, SCORE_ROWS, ScoreRow


@pytest.mark.parametrize("row", SCORE_ROWS, ids=lambda row: row.name)
def test_printed_scores_follow_from_the_formula(row: ScoreRow) -> None:
    assert score(ap=row.ap, energy_j=row.energy_j, **row.speed) == pytest.approx(row.printed, rel=2e-4)


@pytest.mark.parametrize("row, given", [(DO_NOT_FOLLOW[0], 32.557), (DO_NOT_FOLLOW[1], 39.813)], ids=["w.375", "gray"])
def test_the_two_rows_that_do_not_follow(row: ScoreRow, given: float) -> None:
    found = score(ap=row.ap, energy_j=row.energy_j, **row.speed)
    assert found == pytest.approx(given, abs=2e-3)
    assert abs(found - row.printed) > 1.9


@pytest.mark.parametrize("row", MEASURED_HERE, ids=lambda row: row.name)
def test_energy_model_against_published_energy(row: ScoreRow) -> None:
    assert energy_model(row.latency_ms).joules == pytest.approx(row.energy_j, rel=0.025)


def test_the_energy_rows_are_the_six_of_the_slides() -> None:
    assert len(MEASURED_HERE) == 6


def test_energy_says_what_it_rests_on() -> None:
    energy = energy_model(24.557, images=1000, target=load_target("kv260"))
    assert "PSINT_FP" in energy.assumptions and "1000 images" in energy.assumptions
    assert "rough guide" in energy.assumptions
    assert energy.joules == pytest.approx(1000 * (0.757 * 0.024557 + 0.00207))
    assert energy.watts == pytest.approx(energy.joules / 24.557)


def test_energy_grows_with_time_and_images() -> None:
    assert energy_model(30).joules > energy_model(20).joules
    assert energy_model(30, images=2000).joules == pytest.approx(2 * energy_model(30, images=1000).joules)


def test_no_score_below_the_thresholds() -> None:
    assert score(ap=0.2, energy_j=1, fps=100) == 0
    assert score(ap=0.5, energy_j=1, fps=5) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"ap": 0.3, "energy_j": 100},
        {"ap": 0.3, "energy_j": 100, "fps": 30, "latency_ms": 30},
        {"ap": 27.4, "energy_j": 100, "fps": 30},
        {"ap": 0.3, "energy_j": 0, "fps": 30},
        {"ap": 0.3, "energy_j": float("nan"), "fps": 30},
        {"ap": float("nan"), "energy_j": 1, "fps": 30},
        {"ap": 0.3, "energy_j": 100, "latency_ms": 0},
    ],
)
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ToolError):
        score(**values)


def test_score_is_a_public_name() -> None:
    assert lowwatt.score is score
