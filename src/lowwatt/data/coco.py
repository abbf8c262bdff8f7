"""Reader of COCO's detection json: images, boxes, and the data set's own category ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.portion import Portioned
from lowwatt.errors import ToolError, did_you_mean


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image: its id in the data set, its file, its stated size in pixels."""

    id: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """Annotations of one image as parallel arrays.

    xywh float64 (N, 4) in pixels as the file has it; label int64 (N,), index into the data set's labels; crowd bool
    (N,); area float64 (N,), which decides what counts as small, medium and large.
    """

    xywh: NDArray[np.float64]
    label: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """Corners (N, 4): left, top, right, bottom."""
        corners = np.concatenate((self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]), 1)
        return corners.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a data set; `kind` is a short constant word, `where` names the file, image or annotation."""

    kind: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class CocoData(Portioned):
    """A labelled split. `boxes[i]` belongs to `images[i]`; label k is `labels[k]`, in the file `category_ids[k]`.

    Images without annotations are kept: background for training, and false positives count on them in evaluation.
    `problems` lists what the reader had to leave out.
    """

    source: Path
    images: tuple[CocoImage, ...]
    boxes: tuple[Boxes, ...]
    labels: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Finding, ...] = ()

    def only_images(self, part: slice) -> CocoData:
        """Some of the images, with their boxes."""
        return replace(self, images=self.images[part], boxes=self.boxes[part])


def read_coco(path: str | Path, images: str | Path, classes: Sequence[str] | None = None) -> CocoData:
    """Read a COCO detection json whose images lie in the folder `images`.

    Labels follow ascending category id, or the order of `classes` where only some are wanted. Annotations that cannot
    be used are left out and told in `problems`. Raises ToolError for an unreadable file or an unknown class.
    """
    source = Path(path)
    content = _read_json(source)
    names = _categories(content, source)
    problems: list[Finding] = []
    pictures = _images(content, Path(images), source, problems)
    rows = _annotations(content, {p.id for p in pictures}, set(names), source, problems)
    return assemble(source, names, pictures, rows, classes, problems)


def assemble(
    source: Path,
    names: dict[int, str],
    images: Sequence[CocoImage],
    rows: Mapping[int, Sequence[dict[str, Any]]],
    classes: Sequence[str] | None,
    problems: Sequence[Finding],
) -> CocoData:
    """A split from rows that have been checked: COCO's keys category_id, bbox, area, iscrowd, by image id.

    `names` are the classes by category id. Raises ToolError where one of `classes` is not among them.
    """
    ids = sorted(names) if classes is None else _choose(names, classes, source)
    label_of = {category: label for label, category in enumerate(ids)}
    boxes = tuple(_boxes([r for r in rows.get(p.id, ()) if r["category_id"] in label_of], label_of) for p in images)
    return CocoData(source, tuple(images), boxes, tuple(names[i] for i in ids), tuple(ids), tuple(problems))


def _read_json(source: Path) -> dict[str, Any]:
    try:
        content = json.loads(source.read_bytes())
    except FileNotFoundError:
        raise ToolError(
            "no such annotation file", where=str(source), hint="set data.root, data.train and data.val"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ToolError("cannot read the annotations", where=str(source), why=str(error)) from None
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        why = "it needs the lists images, annotations and categories"
        raise ToolError("not a COCO detection file", where=str(source), why=why)
    return content


def _categories(content: dict[str, Any], source: Path) -> dict[int, str]:
    try:
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError("a category needs id and name", where=str(source), why=repr(error)) from None
    if not names:
        raise ToolError("the data set has no categories", where=str(source))
    if len(names) != len(content["categories"]):
        raise ToolError("two categories have the same id", where=str(source))
    return names


def _choose(names: dict[int, str], classes: Sequence[str], source: Path) -> list[int]:
    by_name = {name: category for category, name in sorted(names.items(), reverse=True)}
    for name in classes:
        if name not in by_name:
            raise ToolError(f"the data set has no class {name!r}", where=str(source), hint=did_you_mean(name, by_name))
    if len(set(classes)) != len(classes) or not classes:
        raise ToolError("data.classes is empty or names a class twice", where=str(source))
    return [by_name[name] for name in classes]


def _images(content: dict[str, Any], folder: Path, source: Path, problems: list[Finding]) -> tuple[CocoImage, ...]:
    found: dict[int, CocoImage] = {}
    for row in content["images"]:
        try:
            image = CocoImage(int(row["id"]), folder / row["file_name"], int(row["width"]), int(row["height"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            why = f"{error!r} in {str(row)[:80]}"
            raise ToolError("an image needs id, file_name, width and height", where=str(source), why=why) from None
        if image.id in found:
            problems.append(Finding("duplicate image id", str(image.path.name), f"id {image.id} is taken"))
        found.setdefault(image.id, image)
    return tuple(found.values())


def _annotations(
    content: dict[str, Any], image_ids: set[int], categories: set[int], source: Path, problems: list[Finding]
) -> dict[int, list[dict[str, Any]]]:
    rows: dict[int, list[dict[str, Any]]] = {}
    seen: set[Any] = set()
    for row in content["annotations"]:
        problem = _problem(row, image_ids, categories, seen)
        if problem is None:
            rows.setdefault(row["image_id"], []).append(row)
        else:
            place = row.get("id", "?") if isinstance(row, dict) else "?"
            problems.append(Finding(problem[0], f"annotation {place}", problem[1]))
    return rows


def _problem(row: Any, image_ids: set[int], categories: set[int], seen: set[Any]) -> tuple[str, str] | None:
    """Why an annotation cannot be used, as (kind, sentence); None where it can."""
    try:
        box = np.asarray(row["bbox"], np.float64)
        image, category, identity = row["image_id"], row["category_id"], row.get("id")
        finite = bool(np.isfinite(box).all() and np.isfinite(float(row.get("area", 0.0))))
        fresh = identity is None or identity not in seen
        has_image, has_category = image in image_ids, category in categories
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return "malformed annotation", repr(error)
    if box.shape != (4,) or not finite:
        return "malformed annotation", f"bbox {row['bbox']}, area {row.get('area')}"
    if not has_image:
        return "unknown image id", f"image_id {image} is not among the images"
    if not has_category:
        return "unknown category id", f"category_id {category} is not among the categories"
    if not fresh:
        return "duplicate annotation id", f"id {identity} is taken"
    seen.add(identity)
    return None


def _boxes(rows: Sequence[dict[str, Any]], label_of: dict[int, int]) -> Boxes:
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    area = [float(row.get("area", row["bbox"][2] * row["bbox"][3])) for row in rows]
    return Boxes(
        xywh,
        np.array([label_of[row["category_id"]] for row in rows], np.int64),
        np.array([bool(row.get("iscrowd", 0)) for row in rows], np.bool_),
        np.array(area, np.float64),
    )
