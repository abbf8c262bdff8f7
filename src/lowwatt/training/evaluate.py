"""Detections of a torch model on a labelled split, and their average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lowwatt.data.coco import CocoData
from lowwatt.evaluate.coco import Ap, coco_ap
from lowwatt.letterbox import letterbox, read_image
from lowwatt.models.checkpoint import Model
from lowwatt.runtime.postprocess import postprocess
from lowwatt.types import DetectionHead, Detections, Letterbox, Preprocess


def evaluate_model(model: Model, data: CocoData, *, batch: int = 16, device: str = "cpu") -> Ap:
    """Average precision of a model's float weights on a split."""
    return coco_ap(data, predict(model.module, data, model.detection(), model.preprocess, batch=batch, device=device))


def predict(
    module: nn.Module,
    data: CocoData,
    head: DetectionHead,
    preprocess: Preprocess,
    *,
    batch: int = 16,
    device: str | torch.device = "cpu",
    conf: float = 0.01,
) -> list[tuple[int, Detections]]:
    """(image id, detections in source pixels) of every image; the module is left in the mode it was in."""
    training = module.training
    module.eval()
    results: list[tuple[int, Detections]] = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            part = data.images[start : start + batch]
            inputs = [letterbox(read_image(i.path, preprocess.channels), preprocess) for i in part]
            images = torch.from_numpy(np.stack([image for image, _ in inputs])).to(device)
            outputs = module(images.permute(0, 3, 1, 2).float())
            found = _detect(outputs, [box for _, box in inputs], head, data.labels, conf)
            results += zip((i.id for i in part), found, strict=True)
    module.train(training)
    return results


def _detect(
    outputs: Sequence[Tensor], boxes: Sequence[Letterbox], head: DetectionHead, names: Sequence[str], conf: float
) -> Iterator[Detections]:
    """Post-process a batch of NCHW outputs, image by image."""
    order = [name for triple in head.outputs for name in triple]
    arrays = [out.permute(0, 2, 3, 1).float().cpu().numpy() for out in outputs]
    for i, box in enumerate(boxes):
        one = {name: array[i] for name, array in zip(order, arrays, strict=True)}
        yield postprocess(one, {}, head, box, conf=conf, names=names)
