"""data: open the splits that a recipe names, check a folder, hand out images for calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.letterbox import letterbox, read_image
from lowwatt.recipe import DataSettings
from lowwatt.types import Array, Preprocess

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData, Finding
    from lowwatt.data.splits import Split

BATCH = 8
TOLERATED = frozenset(("wrong image size", "box without area", "box outside the image", "empty class", "empty mask"))
"""Findings that training copes with: sizes are read from the image, boxes are clipped, a class stays unlearnt."""


def open_split(settings: DataSettings, split: str) -> CocoData:
    """Train or val split of the recipe's data set; the sample set is made on first use."""
    from lowwatt.data import open_data

    return open_data(settings, (split,))[0]


def calibration_batches(data: Split, preprocess: Preprocess, images: int) -> Iterator[Array]:
    """Float32 NHWC batches (0…255) of `images` images, spread evenly over the split.

    Unreadable images are passed over.
    """
    count = min(images, len(data))
    chosen: list[int] = np.unique(np.linspace(0, len(data) - 1, count).astype(int)).tolist() if count else []
    batch: list[Array] = []
    for index in chosen:
        try:
            image = read_image(data.images[index].path, preprocess.channels)
        except ToolError:
            continue
        batch.append(letterbox(image, preprocess)[0])
        if len(batch) == BATCH:
            yield np.stack(batch).astype(np.float32)
            batch = []
    if batch:
        yield np.stack(batch).astype(np.float32)


def check_folder(folder: Path, annotations: Sequence[str], sheet: Path | None) -> list[dict[str, str]]:
    """Findings of every annotation file or split, {file, level, kind, where, what}; draws `sheet` of the first.

    Without annotations, a folder of classes or of masks is checked as such; there is no sheet of these.
    """
    from lowwatt.data.check_labels import check_labelled, labelled_splits
    from lowwatt.data.formats import splits_of

    if not folder.is_dir():
        raise ToolError("no such folder", where=str(folder))
    names = list(annotations) or splits_of(folder)
    if names:
        return _check_boxes(folder, names, sheet)
    labelled = labelled_splits(folder)
    if not labelled:
        raise ToolError("no annotation file here", where=str(folder), hint="name one with --annotations")
    if sheet is not None:
        raise ToolError("a sheet shows boxes", where=str(folder), why=f"it holds {next(iter(labelled.values()))}")
    return [row for name, found in check_labelled(folder, labelled).items() for row in _rows(name or ".", found)]


def _check_boxes(folder: Path, names: Sequence[str], sheet: Path | None) -> list[dict[str, str]]:
    from lowwatt.data.check import check, sample_sheet
    from lowwatt.data.formats import read_split

    rows: list[dict[str, str]] = []
    for index, name in enumerate(names):
        data = read_split(folder, DataSettings(train=name), "train")
        rows += _rows(name, check(data))
        if sheet is not None and index == 0:
            sample_sheet(data, sheet, 12)
    return rows


def _rows(name: str, found: Sequence[Finding]) -> list[dict[str, str]]:
    return [{"file": name, "level": _level(one), **asdict(one)} for one in found]


def shard_folder(folder: Path, out: Path, names: Sequence[str], megabytes: float) -> list[dict[str, Any]]:
    """Write the folder's splits as shards; a row {split, images, boxes, left_out: files} for each."""
    from lowwatt.data.formats import read_split, splits_of
    from lowwatt.data.shards import write_shards

    found = list(names) or splits_of(folder)
    if not found:
        raise ToolError("no annotation file here", where=str(folder), hint="name one with --annotations")
    rows: list[dict[str, Any]] = []
    for name in found:
        data = read_split(folder, DataSettings(train=name), "train")
        missing = write_shards(data, out, Path(name).name.removesuffix(".json"), megabytes)
        boxes = sum(map(len, data.boxes))
        rows.append({"split": name, "images": len(data) - len(missing), "boxes": boxes,
                     "left_out": [one.where for one in missing]})  # fmt: skip
    return rows


def make_sample_set(folder: Path, train: int, val: int, size: int, seed: int) -> None:
    """Sample set in a folder that is new or empty; a folder that holds anything is left as it is, with a ToolError."""
    from lowwatt.data.sample import make_sample

    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ToolError("the folder holds something already", where=str(folder), hint="name a new folder")
    make_sample(folder, train, val, size, seed)


def _level(finding: Finding) -> str:
    return "warning" if finding.kind in TOLERATED else "error"
