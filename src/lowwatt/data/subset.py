"""A class-balanced part of a large data set, in another's classes: Objects365 as pre-training for COCO."""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.class_maps import ClassMap, folded
from lowwatt.data.json_stream import stream_arrays
from lowwatt.errors import ToolError
from lowwatt.files import atomic_path

_ANNOTATION = ("id", "image_id", "bbox", "area", "iscrowd")


@dataclass(frozen=True)
class Subset:
    """What was written: images and boxes of each class, names of the map that the file lacks, rows without use."""

    annotations: Path
    files: Path
    images: int
    boxes: dict[str, int]
    absent: tuple[str, ...]
    skipped: int


@dataclass
class _Contents:
    """What selection needs of a file: 12 bytes an annotation, 8 an image."""

    names: dict[int, str] = field(default_factory=dict)
    images: array[int] = field(default_factory=lambda: array("q"))
    annotated: array[int] = field(default_factory=lambda: array("q"))
    categories: array[int] = field(default_factory=lambda: array("i"))
    skipped: int = 0


def make_subset(
    annotations: str | Path,
    out: str | Path,
    class_map: ClassMap | None = None,
    *,
    images: int = 0,
    per_class: int = 0,
    seed: int = 0,
) -> Subset:
    """Write the subset's COCO json to `out`, and beside it, as .txt, the image files that it needs, one a line.

    Classes are those of the map, their ids 1, 2 … in its order; without a map, the file's own. Classes take turns: the
    one with the fewest images so far gets the next, until there are `images` of them or each class has `per_class`
    (0: no limit). The same arguments give the same bytes. The file is read twice and never held; memory is 12 bytes an
    annotation. Raises ToolError for an unreadable file, and where a class of the map has no name in it.
    """
    contents = _read(annotations)
    own = class_map or _identity(contents)
    label_of, absent = _labels(contents, own, annotations)
    image, label = _pairs(contents, label_of)
    chosen = _choose(image, label, len(own.labels), images or len(image), per_class or len(image), seed)
    if not len(chosen):
        raise ToolError("no image has one of the classes", where=str(annotations))
    target = Path(out)
    files = target.with_suffix(".txt")
    if files == target:
        raise ToolError("the subset is a .json file", where=str(out))
    with atomic_path(target) as path, path.open("w", encoding="utf-8") as file, atomic_path(files) as listed:
        writer = _Writer(file, own, label_of, set(chosen.tolist()))
        writer.write(stream_arrays(annotations))
        listed.write_text("".join(f"{name}\n" for name in sorted(writer.files)), encoding="utf-8")
    boxes = dict(zip(own.labels, writer.boxes, strict=True))
    return Subset(target, files, len(writer.files), boxes, absent, contents.skipped)


def _read(annotations: str | Path) -> _Contents:
    found = _Contents()
    for key, row in stream_arrays(annotations):
        try:
            if key == "categories":
                found.names[int(row["id"])] = str(row["name"])
            elif key == "images":
                found.images.append(row["id"])
            elif key == "annotations":
                image, category = array("q", [row["image_id"]]), array("i", [row["category_id"]])
                found.annotated.extend(image)
                found.categories.extend(category)
        except (KeyError, TypeError, ValueError, OverflowError):
            found.skipped += 1
    if not found.names or not found.images:
        why = "it needs the lists images, annotations and categories"
        raise ToolError("not a COCO detection file", where=str(annotations), why=why)
    return found


def _identity(contents: _Contents) -> ClassMap:
    names = tuple(dict.fromkeys(contents.names[category] for category in sorted(contents.names)))
    return ClassMap(names, tuple((name,) for name in names))


def _labels(contents: _Contents, own: ClassMap, where: str | Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """Index of our class by the file's category id, and the map's names that the file does not have."""
    index = {folded(name): k for k, names in enumerate(own.sources) for name in names}
    label_of = {c: index[folded(name)] for c, name in contents.names.items() if folded(name) in index}
    there = {folded(name) for name in contents.names.values()}
    absent = tuple(name for names in own.sources for name in names if folded(name) not in there)
    empty = [label for k, label in enumerate(own.labels) if k not in label_of.values()]
    if empty:
        why = f"the file has none of: {', '.join(own.sources[own.labels.index(empty[0])])}"
        hint = "the map is for another data set"
        raise ToolError(f"no category stands for {empty[0]}", where=str(where), why=why, hint=hint)
    return label_of, absent


def _pairs(contents: _Contents, label_of: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each image with each of its classes once, by ascending image: (image ids, class indices)."""
    image, category = np.frombuffer(contents.annotated, np.int64), np.frombuffer(contents.categories, np.int32)
    known = np.array(sorted(label_of), np.int32)
    usable = np.isin(category, known) & np.isin(image, np.frombuffer(contents.images, np.int64))
    labels = np.array([label_of[c] for c in known.tolist()], np.int64)[np.searchsorted(known, category[usable])]
    pairs = np.unique(np.stack((image[usable], labels), 1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _choose(
    image: NDArray[np.int64], label: NDArray[np.int64], classes: int, images: int, per_class: int, seed: int
) -> NDArray[np.int64]:
    """Ids of the images of the subset, ascending."""
    ids, first = np.unique(image, return_index=True)
    ends = np.append(first[1:], len(image))
    place = np.searchsorted(ids, image)
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    order = np.argsort(shuffled[place], kind="stable")
    queues = [iter(place[order][label[order] == k].tolist()) for k in range(classes)]
    taken, counts = np.zeros(len(ids), bool), [0] * classes
    turns = [(0, k) for k in range(classes)]
    while turns and images:
        count, k = heapq.heappop(turns)
        if counts[k] >= per_class:
            continue
        if count == counts[k]:
            index = next((i for i in queues[k] if not taken[i]), None)
            if index is None:
                continue
            taken[index], images = True, images - 1
            for other in label[first[index] : ends[index]].tolist():
                counts[other] += 1
        heapq.heappush(turns, (counts[k], k))
    return ids[taken]


class _Writer:
    """Copies the rows of the chosen images, in the file's order, as they come."""

    def __init__(self, file: TextIO, own: ClassMap, label_of: dict[int, int], chosen: set[int]) -> None:
        self.file, self.label_of, self.chosen = file, label_of, chosen
        self.boxes, self.files = [0] * len(own.labels), list[str]()
        categories = [{"id": k, "name": name} for k, name in enumerate(own.labels, 1)]
        self.file.write(f'{{"categories": {json.dumps(categories)}')

    def write(self, rows: Iterator[tuple[str, Any]]) -> None:
        written: list[str] = []
        for key, row in rows:
            kept = self._image(row) if key == "images" else self._annotation(row) if key == "annotations" else None
            if kept is None:
                continue
            if not written or written[-1] != key:
                if key in written:
                    raise ToolError("the annotations have a list twice", where=key)
                self.file.write(("]" if written else "") + f',\n"{key}": [\n')
                written.append(key)
            else:
                self.file.write(",\n")
            self.file.write(json.dumps(kept))
        self.file.write("]}\n")

    def _image(self, row: Any) -> dict[str, Any] | None:
        if not isinstance(row, dict) or row.get("id") not in self.chosen:
            return None
        if not all(key in row for key in ("file_name", "width", "height")):
            raise ToolError("an image needs id, file_name, width and height", where=str(row)[:80])
        self.files.append(str(row["file_name"]))
        return {key: row[key] for key in ("id", "file_name", "width", "height")}

    def _annotation(self, row: Any) -> dict[str, Any] | None:
        try:
            label = self.label_of[row["category_id"]]
            if row["image_id"] not in self.chosen:
                return None
        except (KeyError, TypeError):
            return None
        self.boxes[label] += 1
        return {key: row[key] for key in _ANNOTATION if key in row} | {"category_id": label + 1}
