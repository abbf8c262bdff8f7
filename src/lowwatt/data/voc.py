"""Reader of Pascal VOC: JPEGImages, Annotations/*.xml, and the splits in ImageSets/Main/*.txt.

Everingham et al., The Pascal VOC challenge, IJCV 2010: the first pixel is 1, 1, and a box has its last pixel within;
objects that are `difficult` are neither learnt nor scored, which is what COCO's crowds are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lowwatt.data.coco import CocoData, CocoImage, Finding, assemble
from lowwatt.data.image_size import image_size
from lowwatt.errors import ToolError
from lowwatt.runtime.sources import IMAGE_SUFFIXES

IMAGES, ANNOTATIONS, SPLITS = "JPEGImages", "Annotations", Path("ImageSets/Main")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Plain(ElementTree.TreeBuilder):
    """Refuses a document type: annotations have none, and entities make XML explode."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE")


def read_voc(root: str | Path, split: str, classes: Sequence[str] | None = None) -> CocoData:
    """Read the images that ROOT/ImageSets/Main/SPLIT.txt lists; an image without an .xml is background.

    Labels are the names in all of ROOT/Annotations, by the alphabet, so that the splits agree; category ids are 1, 2 …
    What cannot be used is left out and told in `problems`. Raises ToolError for an unreadable list or an unknown class.
    """
    folder = Path(root)
    source = folder / SPLITS / f"{split}.txt"
    stems = _stems(source)
    wanted, problems = set(stems), list[Finding]()
    read: dict[str, tuple[tuple[int, int] | None, list[_Object]]] = {}
    found: set[str] = set()
    for path in sorted((folder / ANNOTATIONS).glob("*.xml")):
        size, objects = _annotation(path, problems if path.stem in wanted else [])
        found |= {one.name for one in objects}
        if path.stem in wanted:
            read[path.stem] = size, objects
    if not found:
        raise ToolError("the annotations name no class", where=str(folder / ANNOTATIONS))
    names = dict(enumerate(sorted(found), 1))
    images, rows = _images(folder, stems, read, {name: number for number, name in names.items()}, problems)
    return assemble(source, names, images, rows, classes, problems)


def _stems(source: Path) -> list[str]:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ToolError("cannot read the split", where=str(source), why=str(error)[:200]) from None
    stems = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    if not stems:
        raise ToolError("the split has no image", where=str(source))
    return stems


def _images(
    folder: Path,
    stems: Sequence[str],
    read: dict[str, tuple[tuple[int, int] | None, list[_Object]]],
    numbers: dict[str, int],
    problems: list[Finding],
) -> tuple[list[CocoImage], dict[int, list[dict[str, Any]]]]:
    files: dict[str, Path] = {}
    for path in sorted((folder / IMAGES).glob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files.setdefault(path.stem, path)
    images, rows = [], {}
    for number, stem in enumerate(stems, 1):
        size, objects = read.get(stem, (None, []))
        if stem not in files:
            problems.append(Finding("missing image", stem[:80], "no such file"))
            continue
        path = files[stem]
        try:
            height, width = size or image_size(path)
        except ToolError as error:
            problems.append(Finding("broken image", path.name, error.why or error.what))
            continue
        images.append(CocoImage(number, path, width, height))
        rows[number] = [
            {"category_id": numbers[one.name], "bbox": one.box, "iscrowd": one.difficult} for one in objects
        ]
    return images, rows


def _annotation(path: Path, problems: list[Finding]) -> tuple[tuple[int, int] | None, list[_Object]]:
    """Stated (height, width), None where there is none, and the objects of an .xml."""
    try:
        tree = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_Plain()))
    except (ElementTree.ParseError, ValueError, LookupError, OSError, RecursionError) as error:
        problems.append(Finding("malformed annotation", path.name, str(error)[:200]))
        return None, []
    objects = []
    for number, node in enumerate(tree.iter("object"), 1):
        try:
            objects.append(_object(node))
        except (ValueError, OverflowError) as error:
            problems.append(Finding("malformed annotation", f"{path.name}, object {number}", str(error)[:200]))
    try:
        size = int(tree.findtext("size/height") or 0), int(tree.findtext("size/width") or 0)
    except ValueError:
        size = (0, 0)
    return (size if min(size) > 0 else None), objects


def _object(node: ElementTree.Element) -> _Object:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise ValueError("it has no name")
    left, top, right, bottom = (_pixel(node.findtext(f"bndbox/{edge}"), edge) for edge in _EDGES)
    box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
    return _Object(name, box, (node.findtext("difficult") or "").strip() == "1")


def _pixel(text: str | None, edge: str) -> float:
    value = float(text) if text else float("nan")
    if not abs(value) < 1e6:
        raise ValueError(f"{edge} is {(text or 'missing')[:40]}")
    return value
