"""Classification: soft targets, cross-entropy, top-1 and top-5 on the validation split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowwatt.data.folder import ClassData
from lowwatt.data.items import ClassLoader
from lowwatt.evaluate.evidence import Confusion, Evidence, class_pictures, spread
from lowwatt.evaluate.topk import rank_of, top_k
from lowwatt.recipe import Recipe
from lowwatt.training.processes import Processes
from lowwatt.training.single import SingleOutputTask, interleaved, scores_of


class ClassificationTask(SingleOutputTask):
    """One class for each image."""

    metrics = ("top1", "top5")

    def __init__(self, recipe: Recipe, train: ClassData, val: ClassData, processes: Processes) -> None:
        super().__init__(recipe, val, processes)
        self.val = val
        self._last: list[tuple[int, int, int]] = []
        self.loader = ClassLoader(train, recipe, self.preprocess, processes.rank, processes.world)

    def loss(self, outputs: Any, images: Tensor, batch: Any, plain: bool) -> dict[str, Tensor]:
        """Cross-entropy with the targets, smoothed."""
        logits = outputs.flatten(1).float()
        targets = torch.from_numpy(batch.targets).to(images.device)
        share = self.recipe.classification.smoothing
        targets = targets * (1 - share) + share / logits.shape[1]
        total = -(targets * logits.log_softmax(1)).sum()
        return {"loss": total / self.processes.share(targets.sum())}

    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """Share of images whose class is the likeliest, and among the five likeliest."""
        share = self.val.part(processes.rank, processes.world)
        found = scores_of(module, share, self.preprocess, processes.device)
        own = [
            (rank_of(scores.reshape(-1), image.label), image.label, int(scores.argmax()))
            for (scores, _), image in zip(found, share.images, strict=True)
        ]
        self._last = interleaved(processes.gather(own))
        measured = top_k([rank for rank, _, _ in self._last])
        return {"top1": measured.top1, "top5": measured.top5}

    def evidence(self) -> Evidence:
        """Which class is taken for which; a few images."""
        counts = np.zeros((len(self.labels),) * 2, np.int64)
        for _, truth, found in self._last:
            counts[truth, found] += 1
        shown = {index: self._last[index][2] for index in spread(len(self._last))}
        return Evidence(confusion=Confusion(self.labels, counts), pictures=class_pictures(self.val, shown))
