"""The networks of each task: what a recipe builds, and how its outputs are read. A new network is one row here."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lowwatt.errors import ToolError
from lowwatt.models import classifiers, segmenter, yolox
from lowwatt.recipe import ModelSettings, Recipe
from lowwatt.types import ClassHead, DetectionHead, Head, Preprocess, SegmentationHead

NETWORKS: dict[str, dict[str, Callable[[ModelSettings, int], nn.Module]]] = {
    "detection": {"yolox": yolox.build_model},
    "classification": {
        "resnet": classifiers.resnet,
        "mobilenet": classifiers.mobilenet,
        "cspdarknet": classifiers.cspdarknet,
    },
    "segmentation": {"cspnet": segmenter.CSPNet},
}
"""Task → `model.arch` → what makes the network of so many classes, freshly initialised; the first is the default."""

HEADS: dict[str, type[Head]] = {
    "detection": DetectionHead,
    "classification": ClassHead,
    "segmentation": SegmentationHead,
}


def build_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network, from torch's global generator; ToolError where it is for another task."""
    known = NETWORKS[recipe.task]
    name = str(recipe.model.arch) or next(iter(known))
    if name not in known:
        hint = f"for {recipe.task} there is {', '.join(known)}"
        raise ToolError(f"{name} is no network for {recipe.task}", where="model.arch", hint=hint)
    return known[name](recipe.model, num_classes)


def head_of(recipe: Recipe, num_classes: int) -> Head:
    """How the outputs are read."""
    if recipe.task == "detection":
        return yolox.head_of(recipe.model, num_classes)
    if recipe.task == "classification":
        return ClassHead(classifiers.OUTPUT, num_classes)
    return SegmentationHead(segmenter.OUTPUT, num_classes, recipe.segmentation.ignore)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """A classifier is shown the middle of an image, the others all of it."""
    if recipe.task != "classification":
        return yolox.preprocess_of(recipe.model)
    return Preprocess((recipe.model.size, recipe.model.size), recipe.model.channels, fit="crop")
