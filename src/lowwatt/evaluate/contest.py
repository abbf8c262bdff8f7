"""Files of the LPCV 2021 contest: which images, under which ids, and the results as COCO json and as XML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.evaluate.coco import to_coco
from lowwatt.files import atomic_path
from lowwatt.ir.heads.labels import COCO_IDS, COCO_LABELS
from lowwatt.runtime.sources import images_of, is_live, is_video
from lowwatt.types import Detections

Found = Sequence[tuple[int, Detections]]
"""Image ids and what was found there, in source pixels."""


@dataclass(frozen=True, slots=True)
class ContestImage:
    """An image's id in the results, and its file."""

    id: int
    path: Path


def list_images(source: str | Path) -> list[ContestImage]:
    """Images of a folder or pattern, in the contest's order: by the number that is their name and their id.

    Where a name is no number, or two are the same, images go by name and are numbered from 1. ToolError for a folder
    without images.
    """
    still = [Path(str(image)) for image in images_of(source) if not is_live(image) and not is_video(image)]
    paths = [path for path in still if not path.is_dir()]
    if not any(path.exists() for path in paths):
        raise ToolError("no images here", where=str(source), hint="name a folder, a file or a pattern")
    numbers = [int(path.stem) for path in paths if path.stem.isdecimal()]
    if len(set(numbers)) == len(paths):
        return [ContestImage(number, path) for number, path in sorted(zip(numbers, paths, strict=True))]
    return [ContestImage(number, path) for number, path in enumerate(sorted(paths), 1)]


def contest_ids(labels: Sequence[str], stored: Sequence[int], classes: int) -> tuple[int, ...]:
    """Category id of each label: COCO's (1 … 90) where all names are COCO's, else those stored, else 1 … classes.

    >>> contest_ids(["person", "toothbrush"], (), 2), contest_ids(["lamp"], [17], 1), contest_ids([], [], 2)
    ((1, 90), (17,), (1, 2))
    """
    known = dict(zip(COCO_LABELS, COCO_IDS, strict=True))
    if labels and all(name in known for name in labels):
        return tuple(known[name] for name in labels)
    return tuple(stored) if len(stored) == classes else tuple(range(1, classes + 1))


def write_json(path: Path, found: Found, ids: Sequence[int]) -> None:
    """COCO's result rows, image_id, category_id, bbox (x, y, width, height), score; written image by image."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for position, row in enumerate(_rows(found, ids)):
            file.write((",\n" if position else "\n") + json.dumps(row))
        file.write("\n]\n")


def write_xml(path: Path, found: Found, ids: Sequence[int], seconds: float | None, joules: float | None) -> None:
    """The same rows as the contest's harness writes them: runtime (s), energy (J), and one <image> a detection.

    What is not known is left out. Source: lpcv_eval.py of ModelTC/LPCV2021_Winner_Solution.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<results>\n')
        for name, value in (("runtime", seconds), ("energy", joules)):
            if value is not None:
                file.write(f"\t<{name}>{value!r}</{name}>\n")
        file.writelines(map(_element, _rows(found, ids)))
        file.write("</results>\n")


def _rows(found: Found, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One image's at a time: those of 20,000 images at once would take gigabytes."""
    for result in found:
        yield from to_coco([result], ids)


def _element(row: dict[str, Any]) -> str:
    box = "".join(_tag(name, value) for name, value in zip(("x", "y", "width", "height"), row["bbox"], strict=True))
    inner: Iterable[str] = (
        _tag("image_id", row["image_id"]),
        _tag("category_id", row["category_id"]),
        f"<bbox>{box}</bbox>",
        _tag("score", row["score"]),
    )
    return f"\t<image>{''.join(inner)}</image>\n"


def _tag(name: str, value: float) -> str:
    return f"<{name}>{value!r}</{name}>"
