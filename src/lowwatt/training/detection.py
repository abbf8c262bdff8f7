"""Detection: YOLOX on boxes, simOTA and its losses, AP on the validation split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lowwatt.data.coco import CocoData
from lowwatt.data.loader import TrainLoader
from lowwatt.evaluate.coco import Ap, coco_ap
from lowwatt.evaluate.evidence import Evidence, detection_evidence
from lowwatt.models.checkpoint import Model
from lowwatt.models.reparam import expand
from lowwatt.models.yolox import head_of, preprocess_of
from lowwatt.recipe import Recipe
from lowwatt.training.distill import Distiller, Watched
from lowwatt.training.evaluate import predict
from lowwatt.training.loss import detection_loss, flatten, pad_targets
from lowwatt.training.processes import Processes
from lowwatt.training.task import Task, network_of
from lowwatt.types import Detections


class DetectionTask(Task):
    """Boxes of a COCO-like data set."""

    parts: tuple[str, ...] = ("iou", "cls", "obj", "l1")
    metrics = ("ap", "ap50")

    def __init__(self, recipe: Recipe, train: CocoData, val: CocoData, processes: Processes) -> None:
        self.recipe, self.val, self.processes = recipe, val, processes
        self.head = head_of(recipe.model, len(val.labels))
        self.preprocess = preprocess_of(recipe.model)
        self.loader = TrainLoader(train, self.preprocess, recipe.train, processes.rank, processes.world)
        self._last: tuple[list[tuple[int, Detections]], Ap] | None = None
        self.distiller: Distiller | None = None
        if recipe.distill.teacher:
            self.distiller = Distiller(recipe.distill, val.labels, self.head.strides, processes)
            self.parts = (*self.parts, "neck", "logits")

    def build(self) -> nn.Module:
        """The recipe's network, from a seed, or from the weights that `model.init` names."""
        module = network_of(self.recipe, self.val.labels)
        if self.recipe.model.reparam:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.train.seed + 1)
                expand(module)
        return module

    def learner(self, module: nn.Module) -> nn.Module:
        """Beside a teacher, the network with its neck seen."""
        return module if self.distiller is None else Watched(module)

    def loss(self, outputs: Any, images: Tensor, batch: Any, plain: bool) -> dict[str, Tensor]:
        """IoU, class and objectness losses per positive anchor; L1 in plain epochs."""
        maps, features = (outputs, ()) if self.distiller is None else outputs
        targets = pad_targets(batch.boxes, batch.labels, images.device)
        predictions = flatten(maps, (images.shape[2], images.shape[3]), self.head.strides)
        settings = self.recipe.train
        losses = detection_loss(predictions, targets, plain, settings.box_loss, settings.cls_loss, self.processes.share)
        parts = {"iou": losses.iou, "cls": losses.cls, "obj": losses.obj, "l1": losses.l1}
        if self.distiller is not None:
            parts |= self.distiller.losses(images, features, predictions, plain)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """AP50:95 and AP50; every process looks at its share of the images, the first one scores."""
        share = self.val.part(processes.rank, processes.world)
        found = predict(module, share, self.head, self.preprocess, device=processes.device)
        found = [row for part in processes.gather(found) for row in part]
        ap = processes.agree(coco_ap(self.val, found) if processes.first else None)
        assert ap is not None
        self._last = found, ap
        return {"ap": ap.ap, "ap50": ap.ap50}

    def evidence(self) -> Evidence:
        """Precision over recall, confusion, pictures with boxes."""
        return Evidence() if self._last is None else detection_evidence(self.val, *self._last)

    def model(self, module: nn.Module, info: dict[str, Any]) -> Model:
        """With head, labels and category ids."""
        labels, ids = self.val.labels, self.val.category_ids
        return Model(module, self.recipe, labels, ids, self.head, self.preprocess, info)

    def identity(self) -> dict[str, Any]:
        """Network and classes."""
        return {"model": self.recipe.model.model_dump(), "labels": list(self.val.labels)}

    def work(self) -> float:
        """Input pixels of one evaluation."""
        return float(len(self.val) * self.recipe.model.size**2)
