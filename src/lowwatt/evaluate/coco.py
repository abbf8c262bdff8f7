"""COCO average precision of detections against a labelled split, through hotcoco (equal to pycocotools bit for bit)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.types import Array, Detections

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData

_FIFTY, _SEVENTY_FIVE = 0, 5  # positions of IoU .50 and .75 in .50 : .05 : .95
_HUNDRED = 2  # position of 100 detections an image in (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Ap:
    """Average precision, 0…1: over IoU .50:.95, at .50 and .75, by object area (< 32², < 96², above), by class name.

    -1 where the split holds no such object, as pycocotools has it. `precision50` is the precision at IoU .50 at each of
    101 recalls 0…1, mean over the classes.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    per_class: dict[str, float] = field(default_factory=dict)
    per_class50: dict[str, float] = field(default_factory=dict)
    precision50: tuple[float, ...] = ()


def coco_ap(data: CocoData, results: Sequence[tuple[int, Detections]]) -> Ap:
    """Average precision of `results`, pairs of image id and detections in source pixels.

    Every image of `data` counts, also those without a result. Labels of the detections are those of `data`.
    """
    import hotcoco

    truth = hotcoco.COCO(_ground_truth(data))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(to_coco(results, data.category_ids)), "bbox")
    evaluation.params.cat_ids = list(data.category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    tables: Any = evaluation.eval
    precision = np.asarray(tables["precision"])[..., _HUNDRED]  # IoU, recall, class, area
    return _summary(precision, data.labels)


def _summary(precision: Array, labels: Sequence[str]) -> Ap:
    return Ap(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[_FIFTY, ..., 0]),
        ap75=_mean(precision[_SEVENTY_FIVE, ..., 0]),
        small=_mean(precision[..., 1]),
        medium=_mean(precision[..., 2]),
        large=_mean(precision[..., 3]),
        per_class={name: _mean(precision[:, :, k, 0]) for k, name in enumerate(labels)},
        per_class50={name: _mean(precision[_FIFTY, :, k, 0]) for k, name in enumerate(labels)},
        precision50=tuple(_mean(row) for row in precision[_FIFTY, ..., 0]),
    )


def _mean(precision: Array) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def to_coco(results: Sequence[tuple[int, Detections]], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections as rows of a COCO result file: image_id, category_id, bbox (x, y, width, height), score."""
    rows = []
    for image_id, found in results:
        size = found.xyxy[:, 2:] - found.xyxy[:, :2]
        boxes = np.concatenate((found.xyxy[:, :2], size), 1).astype(float).tolist()
        for box, score, label in zip(boxes, found.score.tolist(), found.label.tolist(), strict=True):
            rows.append({"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score})
    return rows


def _ground_truth(data: CocoData) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image, boxes in zip(data.images, data.boxes, strict=True):
        for k in range(len(boxes)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": data.category_ids[boxes.label[k]],
                    "bbox": boxes.xywh[k].tolist(),
                    "area": float(boxes.area[k]),
                    "iscrowd": int(boxes.crowd[k]),
                }
            )
    return {
        "images": [{"id": i.id, "file_name": i.path.name, "width": i.width, "height": i.height} for i in data.images],
        "annotations": annotations,
        "categories": [{"id": c, "name": n} for c, n in zip(data.category_ids, data.labels, strict=True)],
    }
