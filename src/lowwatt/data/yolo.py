"""Reader of YOLO's text labels: data.yaml, images, and for each a .txt of classes and boxes in shares of the image.

The form is that of Darknet and of all that followed: `class cx cy w h`, or a class and a polygon's corners.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lowwatt import yaml_text
from lowwatt.data.coco import CocoData, CocoImage, Finding, assemble
from lowwatt.data.image_size import image_size
from lowwatt.errors import ToolError
from lowwatt.runtime.sources import IMAGE_SUFFIXES

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
_WHAT = "cannot read the data set's description"


def description(root: Path) -> Path | None:
    """The file that says what the folder holds; None where there is none."""
    return next((root / name for name in DESCRIPTIONS if (root / name).is_file()), None)


def read_yolo(root: str | Path, split: str, classes: Sequence[str] | None = None) -> CocoData:
    """Read the split (train, val, test) that ROOT/data.yaml names as a folder, a list of folders, or a .txt of images.

    The labels of …/images/a.jpg lie in …/labels/a.txt; an image without is background. A polygon becomes its bounding
    box. Category ids are the class numbers. Rows that cannot be used are left out and told in `problems`, and so are
    images that cannot be read. Raises ToolError for an unreadable description, split, or an unknown class.
    """
    folder = Path(root)
    source = description(folder)
    if source is None:
        raise ToolError("no data.yaml here", where=str(folder), hint="it names the classes and the folders of images")
    content = _read(source)
    files = sorted({file for entry in _entries(content, split, source) for file in _files(entry, content, source)})
    if not files:
        raise ToolError("the split has no image", where=f"{source}, {split}")
    names = _names(content, source)
    problems: list[Finding] = []
    images: list[CocoImage] = []
    rows: dict[int, list[dict[str, Any]]] = {}
    for number, file in enumerate(files, 1):
        try:
            height, width = image_size(file)
        except ToolError as error:
            problems.append(Finding("broken image", file.name, error.why or error.what))
            continue
        images.append(CocoImage(number, file, width, height))
        rows[number] = list(_rows(label_file(file), len(names), (width, height), problems))
    return assemble(source, names, images, rows, classes, problems)


def label_file(image: Path) -> Path:
    """Where the labels of an image lie.

    >>> str(label_file(Path("coco/images/train/a.jpg")))
    'coco/labels/train/a.txt'
    """
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read(source: Path) -> dict[str, Any]:
    content = yaml_text.parse(_text(source, _WHAT), _WHAT, str(source))
    if not isinstance(content, dict):
        raise ToolError(_WHAT, where=str(source), why="it is not a mapping")
    return content


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ToolError(what, where=str(path), why=str(error)[:200]) from None


def _names(content: dict[str, Any], source: Path) -> dict[int, str]:
    """Class names by number, from a list or from a mapping of the numbers 0, 1 …"""
    names = content.get("names")
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(rows, dict) or not rows or sorted(map(str, rows)) != sorted(map(str, range(len(rows)))):
        why = "names must be a list, or a mapping of the numbers 0, 1 … to names"
        raise ToolError(_WHAT, where=str(source), why=why)
    return {int(number): str(name) for number, name in rows.items()}


def _entries(content: dict[str, Any], split: str, source: Path) -> list[str]:
    entry = content.get(split)
    entries: list[Any] = entry if isinstance(entry, list) else [entry]
    if not entries or not all(isinstance(one, str) and one for one in entries):
        raise ToolError(f"the description names no images of {split}", where=str(source))
    return entries


def _files(entry: str, content: dict[str, Any], source: Path) -> list[Path]:
    place = _place(entry, content, source)
    if place.is_dir():
        return [file for file in place.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES]
    lines = (line.strip() for line in _text(place, "cannot read the list of images").splitlines())
    return [place.parent / line for line in lines if line]


def _place(entry: str, content: dict[str, Any], source: Path) -> Path:
    """Where an entry points: from `path`, or from the description; exports are off by a leading ../ at times."""
    root, inside = source.parent, entry
    while inside.startswith("../"):
        inside = inside.removeprefix("../")
    stated = content.get("path")
    bases = [root / stated, root] if isinstance(stated, str) else [root]
    places = [base / name for name in (entry, inside) for base in bases]
    try:
        return next((place for place in places if place.exists()), places[0])
    except (OSError, ValueError) as error:
        raise ToolError("the description names no folder", where=str(source), why=str(error)) from None


def _rows(path: Path, classes: int, size: tuple[int, int], problems: list[Finding]) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        problems.append(Finding("malformed annotation", path.name, str(error)[:200]))
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        box, where = _box(words[1:], size), f"{path.name}, line {number}"
        category = int(words[0]) if words[0].isdecimal() and len(words[0]) < 10 else None
        if box is None or category is None:
            problems.append(Finding("malformed annotation", where, line[:80]))
        elif category >= classes:
            problems.append(Finding("unknown category id", where, f"class {category} of {classes}"))
        else:
            yield {"category_id": category, "bbox": box}


def _box(words: Sequence[str], size: tuple[int, int]) -> list[float] | None:
    """Left, top, width and height in pixels, of a box or around a polygon; None for anything else."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    corners = len(values) >= 6 and len(values) % 2 == 0
    if not (len(values) == 4 or corners) or not all(map(math.isfinite, values)):
        return None
    if len(values) == 4:
        x, y, w, h = values
        low, high = (x - w / 2, y - h / 2), (x + w / 2, y + h / 2)
    else:
        low, high = (min(values[::2]), min(values[1::2])), (max(values[::2]), max(values[1::2]))
    left, top = low[0] * size[0], low[1] * size[1]
    box = [left, top, (high[0] - low[0]) * size[0], (high[1] - low[1]) * size[1]]
    return box if all(map(math.isfinite, box)) else None
