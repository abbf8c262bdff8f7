"""Detection: YOLOX on boxes, simOTA and its losses, AP on the validation split."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lowwatt.data.coco import CocoData
from lowwatt.data.loader import TrainLoader
from lowwatt.evaluate.coco import coco_ap
from lowwatt.models.checkpoint import Model
from lowwatt.models.yolox import head_of, preprocess_of
from lowwatt.recipe import Recipe
from lowwatt.training.evaluate import predict
from lowwatt.training.loss import detection_loss, flatten, pad_targets
from lowwatt.training.processes import Processes
from lowwatt.training.task import Task, network_of


class DetectionTask(Task):
    """Boxes of a COCO-like data set."""

    parts = ("iou", "cls", "obj", "l1")
    metrics = ("ap", "ap50")

    def __init__(self, recipe: Recipe, train: CocoData, val: CocoData, processes: Processes) -> None:
        self.recipe, self.val, self.processes = recipe, val, processes
        self.head = head_of(recipe.model, len(val.labels))
        self.preprocess = preprocess_of(recipe.model)
        self.loader = TrainLoader(train, self.preprocess, recipe.train, processes.rank, processes.world)

    def build(self) -> nn.Module:
        """The recipe's network, from a seed, or from the weights that `model.init` names."""
        return network_of(self.recipe, len(self.val.labels))

    def loss(self, outputs: Any, images: Tensor, batch: Any, plain: bool) -> dict[str, Tensor]:
        """IoU, class and objectness losses per positive anchor; L1 in plain epochs."""
        targets = pad_targets(batch.boxes, batch.labels, images.device)
        height, width = batch.images.shape[1:3]
        predictions = flatten(outputs, (height, width), self.head.strides)
        losses = detection_loss(predictions, targets, l1=plain, average=self.processes.mean)
        return {"loss": losses.total, "iou": losses.iou, "cls": losses.cls, "obj": losses.obj, "l1": losses.l1}

    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """AP50:95 and AP50; every process looks at its share of the images, the first one scores."""
        share = self.val.part(processes.rank, processes.world)
        found = predict(module, share, self.head, self.preprocess, device=processes.device)
        parts = processes.gather(found)
        ap = coco_ap(self.val, [row for part in parts for row in part]) if processes.first else None
        ap = processes.agree(ap)
        assert ap is not None
        return {"ap": ap.ap, "ap50": ap.ap50}

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
