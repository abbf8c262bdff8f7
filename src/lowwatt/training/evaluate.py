"""Detections of a torch model on a labelled split, and their average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lowwatt.data.coco import CocoData
from lowwatt.evaluate.coco import Ap, coco_ap
from lowwatt.letterbox import letterbox, read_image
from lowwatt.models.checkpoint import Model
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.types import Array, DetectionHead, Detections, Preprocess


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
    boxes_of = Postprocessor(head, {}, conf=conf, names=data.labels)
    results: list[tuple[int, Detections]] = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            part = data.images[start : start + batch]
            inputs = [letterbox(read_image(i.path, preprocess.channels), preprocess) for i in part]
            images = torch.from_numpy(np.stack([image for image, _ in inputs])).to(device)
            outputs = module(images.permute(0, 3, 1, 2).float())
            found = boxes_of.batch(_by_name(outputs, head), [box for _, box in inputs])
            results += zip((i.id for i in part), found, strict=True)
    module.train(training)
    return results


def _by_name(outputs: Sequence[Tensor], head: DetectionHead) -> dict[str, Array]:
    """NCHW outputs in the head's order as NHWC arrays."""
    names = [name for triple in head.outputs for name in triple]
    return {n: out.permute(0, 2, 3, 1).float().cpu().numpy() for n, out in zip(names, outputs, strict=True)}
