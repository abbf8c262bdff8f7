"""Formats of labelled boxes: which one a folder has, and how a split of it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowwatt.data import shards, voc, yolo
from lowwatt.data.coco import CocoData, read_coco
from lowwatt.recipe import DataSettings


def format_of(root: Path) -> str:
    """What lies in a folder: shards, voc, yolo, or else coco.

    COCO comes last, for its files may have any name; a folder with annotations of two kinds needs `data.format`.
    """
    if (root / voc.ANNOTATIONS).is_dir() and (root / voc.SPLITS).is_dir():
        return "voc"
    if yolo.description(root) is not None:
        return "yolo"
    if any(root.glob("*.tar")):
        return "shards"
    return "coco"


def splits_of(root: Path) -> list[str]:
    """What `data.train` may name in a folder: train and val, or every annotation file there."""
    if format_of(root) in ("voc", "yolo"):
        return ["train", "val"]
    return sorted(path.name for path in root.glob("*.json"))


def read_split(root: Path, settings: DataSettings, split: str) -> CocoData:
    """The split (train or val) of a folder in the format that `data.format` names.

    `data.train` and `data.val` are files of COCO's; for the other formats they are names of splits, .json left off.
    """
    name = settings.train if split == "train" else settings.val
    kind: str = settings.format
    if kind == "auto":
        kind = format_of(root)
        kind = "coco" if kind != "shards" and (root / name).is_file() else kind
    classes: Sequence[str] | None = settings.classes
    if kind == "yolo":
        return yolo.read_yolo(root, name.removesuffix(".json"), classes)
    if kind == "voc":
        return voc.read_voc(root, name.removesuffix(".json"), classes)
    if kind == "shards":
        return shards.read_shards([root, *(Path(more).expanduser() for more in settings.roots)], name, classes)
    return read_coco(root / name, root / settings.images, classes)
