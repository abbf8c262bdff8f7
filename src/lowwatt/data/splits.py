"""The splits of a recipe, whatever its task: boxes, classes or masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lowwatt.data import open_data
from lowwatt.data.folder import open_classes
from lowwatt.data.masks import open_masks
from lowwatt.data.sample import SAMPLE
from lowwatt.errors import ToolError
from lowwatt.recipe import Recipe


class LabelledFile(Protocol):
    """An image of a split; what else there is, the task knows."""

    @property
    def path(self) -> Path:
        """Its file."""
        ...


class Split(Protocol):
    """What all labelled splits have."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def images(self) -> Sequence[LabelledFile]:
        """Its images."""
        ...

    def __len__(self) -> int: ...


def open_splits(recipe: Recipe, splits: Sequence[str] = ("train", "val")) -> tuple[Any, ...]:
    """A recipe's splits, in order: CocoData, ClassData or MaskData. ToolError where they are absent or damaged."""
    if recipe.task == "detection":
        return tuple(open_data(recipe.data, tuple(splits)))
    if recipe.task == "classification":
        return tuple(open_classes(recipe.data, splits))
    if recipe.data.root == SAMPLE:
        hint = "name the folder of your own data set"
        raise ToolError("there is no sample set of masks", where="data.root", hint=hint)
    return tuple(open_masks(recipe.data, recipe.segmentation.ignore, splits))
