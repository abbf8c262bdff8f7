"""What a figure of accuracy rests on: precision over recall, which class is taken for which, pictures with boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.evaluate.report import Picture
from lowwatt.letterbox import read_image
from lowwatt.runtime.draw import draw, overlay
from lowwatt.types import Detections

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData, CocoImage
    from lowwatt.data.folder import ClassData
    from lowwatt.data.masks import MaskData
    from lowwatt.evaluate.coco import Ap

CONFUSED_AT = (0.25, 0.5)
"""Score and IoU from which a detection counts in the confusion matrix, as the field's tools have it."""

PICTURES = 8
NOTHING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line of (x, y) points, x ascending from 0 to 1."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts (N, N): a row is what is there, a column what was found; the last of `names` may be nothing."""

    names: Sequence[str]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to see of one evaluation; empty where a task has nothing of the kind."""

    curves: Sequence[Curve] = ()
    confusion: Confusion | None = None
    pictures: Sequence[Picture] = field(default_factory=tuple)


def detection_evidence(data: CocoData, results: Sequence[tuple[int, Detections]], ap: Ap) -> Evidence:
    """Of detections on a split, in the order of its images or any other."""
    found = dict(results)
    recall = np.linspace(0, 1, len(ap.precision50)).tolist()
    curve = Curve("precision over recall at IoU .50", list(zip(recall, ap.precision50, strict=True)))
    return Evidence((curve,), confusion(data, found), pictures(data, found))


def confusion(data: CocoData, found: dict[int, Detections]) -> Confusion:
    """Each box there goes to the free detection that covers it best, of whatever class; crowds are left out."""
    size = len(data.labels)
    counts = np.zeros((size + 1, size + 1), np.int64)
    for image, boxes in zip(data.images, data.boxes, strict=True):
        here = found.get(image.id, Detections.empty())
        here = here[here.score >= CONFUSED_AT[0]]
        pairs = _pairs(boxes.xyxy[~boxes.crowd], here.xyxy)
        truth = boxes.label[~boxes.crowd]
        for box, detection in pairs:
            counts[truth[box], here.label[detection]] += 1
        missed, ghosts = np.delete(truth, [b for b, _ in pairs]), np.delete(here.label, [d for _, d in pairs])
        counts[:size, size] += np.bincount(missed, minlength=size)
        counts[size, :size] += np.bincount(ghosts, minlength=size)
    return Confusion((*data.labels, NOTHING), counts)


def _pairs(truth: NDArray[np.float32], found: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Matches of boxes and detections with an IoU of at least .5, best first."""
    iou = _iou(truth, found)
    pairs: list[tuple[int, int]] = []
    while iou.size and iou.max() >= CONFUSED_AT[1]:
        box, detection = np.unravel_index(int(iou.argmax()), iou.shape)
        pairs.append((int(box), int(detection)))
        iou[box], iou[:, detection] = 0, 0
    return pairs


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    iou: NDArray[np.float32] = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    return iou


def pictures(data: CocoData, found: dict[int, Detections]) -> tuple[Picture, ...]:
    """Some images with what was found on them, spread over the split; those that cannot be read are passed over."""
    nothing = Detections.empty(data.labels)
    shown = [_picture(data.images[i], found.get(data.images[i].id, nothing)) for i in spread(len(data))]
    return tuple(picture for picture in shown if picture is not None)


def _picture(image: CocoImage, detections: Detections) -> Picture | None:
    sure = detections[detections.score >= CONFUSED_AT[0]]
    count = f"{len(sure)} object{'' if len(sure) == 1 else 's'}"
    caption = f"{image.path.name}: {count} above {CONFUSED_AT[0]}"
    return _encoded(image.path, caption, lambda pixels: draw(pixels, sure))


def spread(count: int) -> list[int]:
    """A few indices of so many images, evenly over them."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(PICTURES, count)).astype(int)).tolist() if count else []
    return chosen


def class_pictures(data: ClassData, found: Mapping[int, int]) -> tuple[Picture, ...]:
    """Images with the class that was found, and the right one where it is another; `found` is by index of the image."""
    shown = []
    for index, label in found.items():
        image = data.images[index]
        truth = "" if label == image.label else f", is {data.labels[image.label]}"
        shown.append(_encoded(image.path, f"{image.path.name}: {data.labels[label]}{truth}", lambda pixels: pixels))
    return tuple(picture for picture in shown if picture is not None)


def mask_pictures(data: MaskData, found: Mapping[int, NDArray[np.uint8]]) -> tuple[Picture, ...]:
    """Images with each class that was found in its colour; `found` is by index of the image."""
    shown = []
    for index, classes in found.items():
        path = data.images[index].path
        names = ", ".join(data.labels[label] for label in np.unique(classes))
        shown.append(_encoded(path, f"{path.name}: {names}", partial(overlay, classes=classes)))
    return tuple(picture for picture in shown if picture is not None)


def _encoded(path: Path, caption: str, drawn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Picture | None:
    """What is drawn on an image; None where it cannot be read."""
    import cv2

    try:
        canvas = drawn(read_image(path, 3))
    except ToolError:
        return None
    return Picture(caption, cv2.imencode(".jpg", canvas)[1].tobytes())
