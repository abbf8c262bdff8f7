"""Recipes: overrides, errors that name the nearest setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.recipe import Recipe, load_recipe


def test_defaults_and_overrides() -> None:
    recipe = load_recipe(None, ["train.epochs=3", "model.activation=silu", "train.scale=[0.8, 1.2]"])
    assert (recipe.train.epochs, recipe.model.activation, recipe.train.scale) == (3, "silu", (0.8, 1.2))


def test_yaml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(load_recipe(None, ["name=x", "data.classes=[cat, dog]"]).to_yaml())
    assert load_recipe(path) == load_recipe(None, ["name=x", "data.classes=[cat, dog]"])


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.epoch=3", 'did you mean "train.epochs"?'),
        ("modle.width=1", 'did you mean "model"?'),
        ("train.epochs", "key=value"),
        ("train.epochs=-1", "train.epochs"),
        ("train.epochs=three", "train.epochs"),
        ("name.x=1", ""),
        ("train.scale=[", "override"),
        ("model.size=100", "multiple of 32"),
    ],
)
def test_mistakes_are_explained(override: str, part: str) -> None:
    with pytest.raises(ToolError) as caught:
        load_recipe(None, ["name=x", override])
    assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"- a\n- b", b"a: [", b"", b"train: 3"])
def test_unreadable_recipes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ToolError):
        load_recipe(path)


def test_missing_recipe() -> None:
    with pytest.raises(ToolError, match="no such recipe"):
        load_recipe("nowhere.yaml")


def test_shipped_recipes_are_valid(repository: Path) -> None:
    paths = sorted((repository / "recipes").glob("*.yaml"))
    assert paths
    assert all(isinstance(load_recipe(path), Recipe) for path in paths)


def test_did_you_mean_lists_what_is_known_when_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
