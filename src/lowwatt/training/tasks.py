"""The tasks that the loop trains; a new one is one file and one row here."""

from __future__ import annotations

from typing import Any

from lowwatt.errors import ToolError
from lowwatt.recipe import Recipe
from lowwatt.training.classification import ClassificationTask
from lowwatt.training.detection import DetectionTask
from lowwatt.training.processes import Processes
from lowwatt.training.segmentation import SegmentationTask
from lowwatt.training.task import Task

TASKS: dict[str, type[Any]] = {
    "detection": DetectionTask,
    "classification": ClassificationTask,
    "segmentation": SegmentationTask,
}
"""`recipe.task` → what is made of (recipe, train split, val split, processes)."""


def make_task(recipe: Recipe, train: Any, val: Any, processes: Processes) -> Task:
    """The recipe's task on its data; ToolError for a setting that the task does not have."""
    if recipe.task != "detection" and recipe.distill.teacher:
        raise ToolError(f"there is no distillation for {recipe.task}", where="distill.teacher", hint="leave it empty")
    task: Task = TASKS[recipe.task](recipe, train, val, processes)
    return task
