"""Detections of a torch model on a labelled split, and their average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowwatt.data.ahead import default_workers, in_order
from lowwatt.data.coco import CocoData
from lowwatt.evaluate.coco import Ap, coco_ap
from lowwatt.letterbox import letterbox, read_image
from lowwatt.models.checkpoint import Model
from lowwatt.ranks import world
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.training.draw import sent
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, Preprocess


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
    boxes_of = Postprocessor(head, {}, conf=conf, names=data.labels)
    found: list[Detections] = []
    for outputs, boxes in run_split(module, [image.path for image in data.images], preprocess, device, batch):
        found += boxes_of.batch(_by_name(outputs, head), boxes)
    return list(zip((image.id for image in data.images), found, strict=True))


def run_split(
    module: nn.Module, files: Sequence[Path], preprocess: Preprocess, device: str | torch.device, batch: int
) -> Iterator[tuple[Any, list[Letterbox]]]:
    """What a module gives for images, batch by batch, in evaluation mode; and where each image lies in the input."""
    training = module.training
    module.eval()
    parts = [(files[start : start + batch],) for start in range(0, len(files), batch)]

    def read(part: Sequence[Path]) -> tuple[NDArray[np.uint8], list[Letterbox]]:
        inputs = [letterbox(read_image(file, preprocess.channels), preprocess) for file in part]
        return np.stack([image for image, _ in inputs]), [box for _, box in inputs]

    for images, boxes in in_order(read, parts, default_workers(world())):
        with torch.inference_mode():
            outputs = module(sent(images, torch.device(device)).permute(0, 3, 1, 2).float())
        yield outputs, boxes
    module.train(training)


def _by_name(outputs: Sequence[Tensor], head: DetectionHead) -> dict[str, Array]:
    """NCHW outputs in the head's order as NHWC arrays."""
    names = [name for triple in head.outputs for name in triple]
    return {name: as_array(out) for name, out in zip(names, outputs, strict=True)}


def as_array(output: Tensor) -> NDArray[np.float32]:
    """An NCHW output as a float32 NHWC array."""
    array: NDArray[np.float32] = output.permute(0, 2, 3, 1).float().cpu().numpy()
    return array
