"""Checks of images with a class, or with a class for every pixel, before hours are spent on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lowwatt.data.coco import Finding
from lowwatt.data.folder import LABELS, ClassData, LabelledImage, images_in, read_classes
from lowwatt.data.masks import MaskedImage, read_mask
from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image
from lowwatt.types import UNSCORED

SPLITS = ("train", "val")


def labelled_splits(root: Path) -> dict[str, str]:
    """Splits of a folder that has no boxes, and what they hold: {"train": "classes"} or {"train": "masks"}.

    "" stands for the folder itself, where it has no train/ and val/. Empty for a folder of any other kind.
    """
    parts = {name: root / name for name in SPLITS if (root / name).is_dir()} or {"": root}
    kinds = {name: _kind(part) for name, part in parts.items()}
    return {name: kind for name, kind in kinds.items() if kind}


def _kind(part: Path) -> str:
    if (part / "masks").is_dir():
        return "masks"
    if (part / LABELS).is_file():
        return "classes"
    folders = [path for path in part.iterdir() if path.is_dir()]
    return "classes" if any(images_in(folder) for folder in folders if folder.name != "images") else ""


def check_labelled(root: Path, splits: dict[str, str]) -> dict[str, list[Finding]]:
    """Everything wrong with each split of `labelled_splits`, most basic first.

    Found: images that cannot be read, images of val that are in train too, classes that only one of the splits has;
    masks that are missing, cannot be read, are of another size than their image, or all of no class.
    """
    read = {name: _READERS[kind](root / name) for name, kind in splits.items()}
    found = {name: list(_check_split(one)) for name, one in read.items()}
    if set(SPLITS) <= set(splits):
        train, val = (read[name] for name in SPLITS)
        found["val"] += _leaks(*([image.path for image in _images(split)] for split in (train, val)))
        if isinstance(train, ClassData) and isinstance(val, ClassData):
            found["val"] += _lone_classes(train, val)
    return found


def _masked(folder: Path) -> list[MaskedImage]:
    """Images, whether they have a mask or not."""
    files = images_in(folder / "images") if (folder / "images").is_dir() else []
    return [MaskedImage(path, folder / "masks" / f"{path.stem}.png") for path in files]


_Split = ClassData | list[MaskedImage]
_READERS: dict[str, Callable[[Path], _Split]] = {"classes": read_classes, "masks": _masked}


def _images(split: _Split) -> Sequence[LabelledImage | MaskedImage]:
    return split.images if isinstance(split, ClassData) else split


def _check_split(split: _Split) -> Iterator[Finding]:
    for image in _images(split):
        yield from _check_mask(image) if isinstance(image, MaskedImage) else _check_image(image.path)
    if isinstance(split, ClassData):
        yield from _empty_classes(split)


def _check_image(path: Path) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding("missing image", path.name, "no such file")
        return
    try:
        read_image(path, 1)
    except ToolError as error:
        yield Finding("broken image", path.name, error.why or error.what)


def _check_mask(image: MaskedImage) -> Iterator[Finding]:
    if not image.mask.is_file():
        yield Finding("missing mask", image.path.name, f"no {image.mask.name}")
        return
    try:
        size, mask = read_image(image.path, 1).shape[:2], read_mask(image.mask)
    except ToolError as error:
        yield Finding("broken image" if "mask" not in error.what else "broken mask", image.path.name, error.why)
        return
    if mask.shape != size:
        yield Finding("wrong mask size", image.path.name, f"the image is {size}, the mask {mask.shape}")
    if np.all(mask == UNSCORED):
        yield Finding("empty mask", image.path.name, "no pixel has a class")


def _empty_classes(data: ClassData) -> Iterator[Finding]:
    counts = np.bincount([image.label for image in data.images], minlength=len(data.labels))
    for label in np.flatnonzero(counts == 0):
        yield Finding("empty class", data.labels[label] if data.labels else str(label), "no image of this class")


def _lone_classes(train: ClassData, val: ClassData) -> Iterator[Finding]:
    """Classes by name, or by number where they have no names, that one split lacks."""
    ours, theirs = (
        {data.labels[i.label] if data.labels else str(i.label) for i in data.images} for data in (train, val)
    )
    for name in sorted(theirs - ours):
        yield Finding("unlearnt class", name, "val has it, train has not")
    for name in sorted(ours - theirs):
        yield Finding("empty class", name, "train has it, val has not")


def _leaks(train: Sequence[Path], val: Sequence[Path]) -> Iterator[Finding]:
    """Files of val whose bytes are in train too: what is scored there was learnt by heart."""
    learnt = {_digest(path): path for path in train if path.is_file()}
    for path in val:
        if path.is_file() and (twin := learnt.get(_digest(path))) is not None:
            yield Finding("image in both splits", path.name, f"train has it as {twin.name}")


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
