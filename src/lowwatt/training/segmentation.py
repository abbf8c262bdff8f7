"""Segmentation: weighted cross-entropy of every pixel, mean IoU on the validation split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lowwatt.data.items import MaskLoader
from lowwatt.data.masks import MaskData
from lowwatt.errors import ToolError
from lowwatt.evaluate.evidence import Confusion, Evidence, mask_pictures, spread
from lowwatt.evaluate.miou import counted, mean_iou
from lowwatt.recipe import Recipe
from lowwatt.runtime.segmenter import class_map
from lowwatt.training.processes import Processes
from lowwatt.training.single import SingleOutputTask, scores_of
from lowwatt.types import UNSCORED


class SegmentationTask(SingleOutputTask):
    """A class for each pixel."""

    metrics = ("miou", "pixel_accuracy")

    def __init__(self, recipe: Recipe, train: MaskData, val: MaskData, processes: Processes) -> None:
        super().__init__(recipe, val, processes)
        self.val = val
        self._counts: NDArray[np.int64] | None = None
        self._shown: dict[int, NDArray[np.uint8]] = {}
        self.loader = MaskLoader(train, recipe, self.preprocess, processes.rank, processes.world)
        self.weights = torch.from_numpy(class_weights(train, recipe.segmentation.balance))

    def loss(self, outputs: Any, images: Tensor, batch: Any, plain: bool) -> dict[str, Tensor]:
        """Cross-entropy at the masks' own size, so that small things count; a mean weighted by class."""
        masks = torch.from_numpy(batch.masks).to(images.device).long()
        weights = self.weights.to(images.device)
        logits = functional.interpolate(outputs.float(), size=masks.shape[1:], mode="bilinear", align_corners=False)
        total = functional.cross_entropy(logits, masks, weights, ignore_index=UNSCORED, reduction="sum")
        scored = masks[masks != UNSCORED]
        return {"loss": total / self.processes.mean(weights[scored].sum()).clamp_min(1e-6)}

    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """Mean IoU and pixel accuracy at the size of the images."""
        share = self.val.part(processes.rank, processes.world)
        counts = np.zeros((len(share.labels),) * 2, np.int64)
        shown, wanted = {}, set(spread(len(self.val)))
        for index, (scores, box) in enumerate(scores_of(module, share, self.preprocess, processes.device)):
            classes = class_map(scores, box)
            counts += counted(share.mask(index), classes, len(share.labels))
            place = processes.rank + index * processes.world
            if place in wanted:
                shown[place] = classes
        self._counts = np.sum(processes.gather(counts), 0)
        self._shown = {place: classes for part in processes.gather(shown) for place, classes in part.items()}
        found = mean_iou(self._counts, self.labels)
        return {"miou": found.miou, "pixel_accuracy": found.pixel_accuracy}

    def evidence(self) -> Evidence:
        """Which class is taken for which, in pixels; a few images."""
        if self._counts is None:
            return Evidence()
        shown = dict(sorted(self._shown.items()))
        return Evidence(confusion=Confusion(self.labels, self._counts), pictures=mask_pictures(self.val, shown))


def class_weights(data: MaskData, power: float) -> NDArray[np.float32]:
    """1 / share of the pixels, to a power; 1 on the mean over the pixels, and 1 for a class without any."""
    counts = np.zeros(UNSCORED + 1, np.int64)
    for index in range(len(data)) if power else ():
        counts += np.bincount(data.mask(index).ravel(), minlength=UNSCORED + 1)
    pixels = counts[: len(data.labels)].astype(np.float64)
    if power and not pixels.any():
        raise ToolError("no pixel of the masks has a class", where=str(data.source), hint="look at segmentation.ignore")
    shares = pixels / max(1.0, pixels.sum())
    weights = np.where(shares > 0, np.maximum(shares, 1e-12) ** -power, 1.0)
    mean = (weights * shares).sum() if power else 1.0
    return (weights / mean).astype(np.float32)
