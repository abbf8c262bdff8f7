"""Validation images with what the integers found on them, for the report's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.evaluate.report import Picture
from lowwatt.letterbox import read_image

if TYPE_CHECKING:
    from lowwatt.ir.graph import Graph
    from lowwatt.verbs.produce import Road

PICTURES = 6
LOOKED_AT = 60
"""The first images, of which the most telling ones are shown."""


def pictures(road: Road, quantized: Graph) -> list[Picture]:
    """A few images of the validation split, by the recipe's task."""
    kinds = {"detection": _boxes, "classification": _classes, "segmentation": _masks}
    found = (_encoded(image, caption) for image, caption in kinds[road.recipe.task](road, quantized))
    return [picture for picture in found if picture is not None]


def _boxes(road: Road, quantized: Graph) -> Any:
    """Those with most objects among the first ones."""
    from lowwatt.runtime.draw import draw

    data, detections = road.validation_data, road.accuracy["integer"].found
    for index in sorted(range(min(len(data), LOOKED_AT)), key=lambda i: -len(data.boxes[i]))[:PICTURES]:
        found = detections[index][1]
        strong = found[found.score >= 0.25]
        path = data.images[index].path
        yield draw(read_image(path, 3), strong), f"{path.name}: {len(strong)} boxes"


def _classes(road: Road, quantized: Graph) -> Any:
    """Spread over the split, with the likeliest class."""
    from lowwatt.runtime.classifier import Classifier

    data, network = road.validation_data, Classifier(quantized, "core")
    for index in _spread(len(data)):
        image = data.images[index]
        label = int(network(image.path).argmax())
        truth = "" if label == image.label else f", is {data.labels[image.label]}"
        yield read_image(image.path, 3), f"{image.path.name}: {data.labels[label]}{truth}"


def _masks(road: Road, quantized: Graph) -> Any:
    """Spread over the split, each class in its colour."""
    from lowwatt.runtime.draw import overlay
    from lowwatt.runtime.segmenter import Segmenter

    data, network = road.validation_data, Segmenter(quantized, "core")
    for index in _spread(len(data)):
        path = data.images[index].path
        found = network(path)
        names = ", ".join(data.labels[label] for label in np.unique(found))
        yield overlay(read_image(path, 3), found), f"{path.name}: {names}"


def _spread(count: int) -> list[int]:
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(PICTURES, count)).astype(int)).tolist()
    return chosen


def _encoded(image: NDArray[np.uint8], caption: str) -> Picture | None:
    import cv2

    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return Picture(caption, content.tobytes()) if done else None
