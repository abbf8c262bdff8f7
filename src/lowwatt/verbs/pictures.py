"""Validation images with what the integers found on them, for the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lowwatt.evaluate.evidence import class_pictures, mask_pictures, spread
from lowwatt.evaluate.report import Picture
from lowwatt.letterbox import read_image

if TYPE_CHECKING:
    from lowwatt.ir.graph import Graph
    from lowwatt.verbs.produce import Road

CROWDED, LOOKED_AT = 6, 60
"""Of a detector's first images so many are shown: those with most objects."""


def pictures(road: Road, quantized: Graph) -> Sequence[Picture]:
    """A few images of the validation split, by the recipe's task."""
    kinds = {"detection": _boxes, "classification": _classes, "segmentation": _masks}
    return kinds[road.recipe.task](road, quantized)


def _boxes(road: Road, quantized: Graph) -> Sequence[Picture]:
    import cv2

    from lowwatt.runtime.draw import draw

    data, detections = road.validation_data, road.accuracy["integer"].found
    chosen = sorted(range(min(len(data), LOOKED_AT)), key=lambda i: -len(data.boxes[i]))[:CROWDED]
    shown = []
    for index in chosen:
        found = detections[index][1]
        strong = found[found.score >= 0.25]
        path = data.images[index].path
        image = draw(read_image(path, 3), strong)
        done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
        if done:
            shown.append(Picture(f"{path.name}: {len(strong)} boxes", content.tobytes()))
    return shown


def _classes(road: Road, quantized: Graph) -> Sequence[Picture]:
    from lowwatt.runtime.classifier import Classifier

    data, network = road.validation_data, Classifier(quantized, "core")
    return class_pictures(data, {i: int(network(data.images[i].path).argmax()) for i in spread(len(data))})


def _masks(road: Road, quantized: Graph) -> Sequence[Picture]:
    from lowwatt.runtime.segmenter import Segmenter

    data, network = road.validation_data, Segmenter(quantized, "core")
    return mask_pictures(data, {i: network(data.images[i].path) for i in spread(len(data))})
