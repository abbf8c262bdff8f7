"""Reader of images with one class each: a folder for each class, or images/ and labels.txt, one line an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lowwatt.data.portion import Portioned
from lowwatt.data.sample import SAMPLE, make_class_sample, sample_folder
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.recipe import DataSettings
from lowwatt.runtime.sources import IMAGE_SUFFIXES

LABELS = "labels.txt"
_HINT = "classes are learnt from FOLDER/CLASS/*.jpg, or from FOLDER/images and FOLDER/labels.txt: FILE CLASS"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class ClassData(Portioned):
    """Images with one class each; class k is called `labels[k]`, or has only its number where there are no names."""

    source: Path
    images: tuple[LabelledImage, ...]
    labels: tuple[str, ...] = ()

    def every(self, step: int, others: bool = False) -> ClassData:
        """The same with every `step`th image only, or with all others."""
        chosen = tuple(image for index, image in enumerate(self.images) if (index % step == 0) != others)
        return replace(self, images=chosen)

    def numbered(self, labels: Sequence[str]) -> ClassData:
        """The same with classes numbered as in `labels`; ToolError for an image of another class.

        Data or labels without names are taken to be numbered alike.
        """
        if not labels or not self.labels or tuple(labels) == self.labels:
            return self
        unknown = [name for name in self.labels if name not in labels]
        if unknown:
            hint = did_you_mean(unknown[0], labels)
            raise ToolError(f"the network knows no class {unknown[0]}", where=str(self.source), hint=hint)
        table = [labels.index(name) for name in self.labels]
        images = tuple(replace(image, label=table[image.label]) for image in self.images)
        return replace(self, images=images, labels=tuple(labels))

    def named(self, labels: Sequence[str]) -> ClassData:
        """The same under these names, by which its classes are numbered; ToolError for more classes than names."""
        beyond = [image for image in self.images if not self.labels and image.label >= len(labels)]
        if beyond:
            why = f"class {beyond[0].label} of {beyond[0].path.name}, and there are {len(labels)}"
            raise ToolError("an image has an unknown class", where=str(self.source), why=why)
        return replace(self.numbered(labels), labels=tuple(labels))

    def only(self, classes: Sequence[str]) -> ClassData:
        """These classes; ToolError for one that is not there. Classes that have only numbers are left as they are."""
        if not self.labels:
            return self
        unknown = [name for name in classes if name not in self.labels]
        if unknown:
            hint = did_you_mean(unknown[0], self.labels)
            raise ToolError(f"the data set has no class {unknown[0]}", where=str(self.source), hint=hint)
        names = tuple(name for name in self.labels if name in classes)
        kept = (image for image in self.images if self.labels[image.label] in names)
        images = tuple(replace(image, label=names.index(self.labels[image.label])) for image in kept)
        return replace(self, images=images, labels=names)


def open_classes(settings: DataSettings, splits: Sequence[str] = ("train", "val")) -> list[ClassData]:
    """The splits of a recipe, in order: ROOT/train and ROOT/val, classes numbered as in train.

    ToolError where a folder is missing, and where val has a class that train lacks.
    """
    read = {split: read_classes(class_folder(settings, split)) for split in {*splits, "train"}}
    names = tuple(settings.classes or ()) or read["train"].labels or _numbers(read.values())
    if len(names) < 2:
        raise ToolError("there is one class only", where=settings.root, hint=_HINT)
    found = [read[split] for split in splits]
    if settings.classes:
        found = [data.only(names) for data in found]
    return [data.named(names) for data in found]


def split_folder(settings: DataSettings, split: str) -> Path:
    """ROOT/train or ROOT/val, or what `data.train` and `data.val` name, without their .json."""
    name = settings.train if split == "train" else settings.val
    return Path(settings.root).expanduser() / name.removesuffix(".json")


def class_folder(settings: DataSettings, split: str) -> Path:
    """The same of a classifier's data set; `root: sample` is the set of single digits, made on first use."""
    if settings.root != SAMPLE:
        return split_folder(settings, split)
    counts = (settings.sample_train, settings.sample_val, settings.sample_size)
    root = make_class_sample(sample_folder(*counts, kind="digits"), *counts)
    return split_folder(settings.model_copy(update={"root": str(root)}), split)


def read_classes(root: str | Path) -> ClassData:
    """Images of one folder; `labels.txt` decides which of the two forms it has.

    ROOT/labels.txt has on each line a file of ROOT/images and the index of its class; what follows is passed over.
    Without it, every folder in ROOT is a class, in the order of their names. ToolError for what is neither.
    """
    folder = Path(root).expanduser()
    return _read_list(folder / LABELS) if (folder / LABELS).exists() else _read_folders(folder)


def _read_folders(root: Path) -> ClassData:
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    images = tuple(LabelledImage(path, label) for label, folder in enumerate(folders) for path in images_in(folder))
    if not images:
        why = "no such folder" if not root.is_dir() else "no image in a folder of its class, and no labels.txt"
        raise ToolError("cannot read the labels", where=str(root), why=why, hint=_HINT)
    return ClassData(root, images, tuple(folder.name for folder in folders))


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _read_list(source: Path) -> ClassData:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ToolError("cannot read the labels", where=str(source), why=str(error), hint=_HINT) from None
    rows = [_row(line, f"{source}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ToolError("the data set has no images", where=str(source))
    return ClassData(source, tuple(LabelledImage(source.parent / "images" / name, label) for name, label in rows))


def _row(line: str, where: str) -> tuple[str, int]:
    words = line.split()
    if len(words) < 2 or not words[1].isdecimal():
        raise ToolError("a line of labels needs a file and the index of its class", where=where, why=line[:80])
    return words[0], int(words[1])


def _numbers(splits: Iterable[ClassData]) -> tuple[str, ...]:
    """Names of classes that have only numbers."""
    return tuple(map(str, range(1 + max(image.label for data in splits for image in data.images))))
