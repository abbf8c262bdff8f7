"""Checks of a data set before hours are spent on it, and a sheet of samples to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.coco import Boxes, CocoData, CocoImage, Finding
from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.letterbox import letterbox, read_image
from lowwatt.types import Preprocess

_OUTSIDE = 1.5  # pixels a box may leave its image by: rounding in common annotation tools
_CELL = 240  # side of one picture on the sheet, pixels


def check(data: CocoData, *, images: bool = True) -> list[Finding]:
    """Everything wrong with a split, most basic first; empty where it is sound.

    Found: what the reader left out (unknown or duplicate ids, malformed boxes), missing and broken images, sizes that
    are not those stated, boxes outside their image or without area, classes without a box. `images=False` opens no
    image file.
    """
    found = list(data.problems)
    if not len(data):
        found.append(Finding("no image", data.source.name, "the split holds no image"))
    for image, boxes in zip(data.images, data.boxes, strict=True):
        size: tuple[int, int] | None = (image.height, image.width)
        if images:
            size, wrong = _open(image)
            found += wrong
        if size is not None:
            found += _check_boxes(image, boxes, size)
    return found + list(_empty_classes(data))


def _open(image: CocoImage) -> tuple[tuple[int, int] | None, list[Finding]]:
    """Real (height, width), None where the image cannot be read, and what is wrong with it."""
    name = image.path.name
    if not (image.path.is_file() or image.path.parent.is_file()):  # or a member of a tar
        return None, [Finding("missing image", name, "no such file")]
    try:
        height, width = read_image(image.path, 1).shape[:2]
    except ToolError as error:
        return None, [Finding("broken image", name, error.why or error.what)]
    if (height, width) == (image.height, image.width):
        return (height, width), []
    what = f"stated {image.width} x {image.height}, is {width} x {height}"
    return (height, width), [Finding("wrong image size", name, what)]


def _check_boxes(image: CocoImage, boxes: Boxes, size: tuple[int, int]) -> Iterator[Finding]:
    height, width = size
    for (left, top, box_width, box_height), label in zip(boxes.xywh.tolist(), boxes.label.tolist(), strict=True):
        what = f"box {left:g}, {top:g}, {box_width:g} x {box_height:g} of label {label}"
        if box_width <= 0 or box_height <= 0:
            yield Finding("box without area", image.path.name, what)
            continue
        beyond = max(-left, -top, left + box_width - width, top + box_height - height)
        if beyond > _OUTSIDE:
            yield Finding("box outside the image", image.path.name, f"{what}, image {width} x {height}")


def _empty_classes(data: CocoData) -> Iterator[Finding]:
    labels = np.concatenate([b.label for b in data.boxes]) if data.boxes else np.zeros(0, np.int64)
    counts = np.bincount(labels, minlength=len(data.labels))
    for name, count in zip(data.labels, counts, strict=True):
        if count == 0:
            yield Finding("empty class", name, "no box of this class")


def sample_sheet(data: CocoData, path: str | Path, count: int = 16, seed: int = 0) -> None:
    """Draw `count` random images with boxes and names as one image, of the kind that the path's suffix names."""
    import cv2

    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise ToolError("a sheet is a .png or a .jpg", where=str(path))
    picks = np.random.default_rng(seed).permutation(len(data))[:count]
    if not len(picks):
        raise ToolError("there is no image to draw", where=str(data.source))
    cells = [_cell(data.images[i], data.boxes[i], data.labels) for i in picks]
    columns = int(np.ceil(np.sqrt(len(cells))))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    write_bytes(path, cv2.imencode(suffix, np.concatenate(rows))[1].tobytes())


def _cell(image: CocoImage, boxes: Boxes, names: Sequence[str]) -> NDArray[np.uint8]:
    import cv2

    try:
        picture, fit = letterbox(read_image(image.path, 3), Preprocess((_CELL, _CELL), 3, centre=True))
    except ToolError:
        return np.full((_CELL, _CELL, 3), (0, 0, 90), np.uint8)
    for box, label, crowd in zip(fit.to_input(boxes.xyxy), boxes.label, boxes.crowd, strict=True):
        left, top, right, bottom = (round(float(edge)) for edge in box)
        hue = np.array([[[int(label) * 111 % 180, 90 if crowd else 220, 255]]], np.uint8)
        colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 1)
        cv2.putText(
            picture, names[label], (left + 1, max(9, top - 2)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA
        )
    return picture
