"""Data sets and models that are damaged in ways the readers must survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lowwatt.data.coco import read_coco
from lowwatt.data.sample import make_sample
from lowwatt.errors import ToolError


def write(folder: Path, image: dict[str, Any], annotation: dict[str, Any]) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 10, **image}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], **annotation}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("image", [{"width": float("inf")}, {"height": None}, {"id": "x"}])
def test_an_image_of_no_size_is_refused(tmp_path: Path, image: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="an image needs"):
        read_coco(write(tmp_path, image, {}), tmp_path)


@pytest.mark.parametrize("annotation", [{"area": "x"}, {"area": float("nan")}, {"bbox": [0, 0, 1]}, {"bbox": "abcd"}])
def test_a_malformed_annotation_is_left_out_and_told(tmp_path: Path, annotation: dict[str, Any]) -> None:
    data = read_coco(write(tmp_path, {}, annotation), tmp_path)
    assert len(data.boxes[0]) == 0
    assert [problem.kind for problem in data.problems] == ["malformed annotation"]


def test_the_sample_set_does_not_take_over_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ToolError, match="not empty"):
        make_sample(tmp_path, 2, 1, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_model_whose_head_is_not_that_of_its_recipe_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from lowwatt.models import checkpoint
    from lowwatt.models.yolox import build_model, head_of, preprocess_of
    from lowwatt.recipe import load_recipe
    from lowwatt.types import Preprocess

    recipe = load_recipe(None, ["model.width=0.125", "model.size=64"])
    module = build_model(recipe.model, 1)
    model = checkpoint.Model(module, recipe, ("cat",), (1,), head_of(recipe.model, 1), preprocess_of(recipe.model))
    checkpoint.save(model, tmp_path / "good.safetensors")
    assert checkpoint.load(tmp_path / "good.safetensors").labels == ("cat",)
    model.preprocess = Preprocess((64, 64), 3)
    checkpoint.save(model, tmp_path / "bad.safetensors")
    with pytest.raises(ToolError, match="cannot read the model"):
        checkpoint.load(tmp_path / "bad.safetensors")
