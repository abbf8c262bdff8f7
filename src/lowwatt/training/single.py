"""What tasks share whose network has one output, with a number for each class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lowwatt.data.splits import Split
from lowwatt.models.checkpoint import Model
from lowwatt.models.networks import head_of, preprocess_of
from lowwatt.recipe import Recipe
from lowwatt.training.evaluate import as_array, run_split
from lowwatt.training.processes import Processes
from lowwatt.training.task import Task, network_of
from lowwatt.types import Letterbox, Preprocess

T = TypeVar("T")


class SingleOutputTask(Task):
    """Network, model and identity of such a task; loader, loss and metric are its own."""

    parts = ()

    def __init__(self, recipe: Recipe, val: Split, processes: Processes) -> None:
        self.recipe, self.labels, self.processes = recipe, val.labels, processes
        self.preprocess, self._scored = preprocess_of(recipe), len(val)

    def build(self) -> nn.Module:
        """The recipe's network."""
        return network_of(self.recipe, self.labels)

    def model(self, module: nn.Module, info: dict[str, Any]) -> Model:
        """With the names of the classes."""
        head = head_of(self.recipe, len(self.labels))
        return Model(module, self.recipe, self.labels, (), head, self.preprocess, info)

    def identity(self) -> dict[str, Any]:
        """Task, network and classes."""
        return {"task": self.recipe.task, "model": self.recipe.model.model_dump(), "labels": list(self.labels)}

    def work(self) -> float:
        """Input pixels of one evaluation."""
        return float(self._scored * self.recipe.model.size**2)


def scores_of(
    module: nn.Module, data: Split, preprocess: Preprocess, device: torch.device, batch: int = 32
) -> Iterator[tuple[NDArray[np.float32], Letterbox]]:
    """What a network of one output gives for each image of a split, float32 (h, w, C), and where the image lay in it.

    The module is left in evaluation mode while it is read.
    """
    files = [image.path for image in data.images]
    for outputs, boxes in run_split(module, files, preprocess, device, batch):
        yield from zip(np.ascontiguousarray(as_array(outputs)), boxes, strict=True)


def interleaved(parts: list[list[T]]) -> list[T]:
    """What processes made of every n-th item, in the order of the items.

    >>> interleaved([[0, 2, 4], [1, 3]])
    [0, 1, 2, 3, 4]
    """
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]
