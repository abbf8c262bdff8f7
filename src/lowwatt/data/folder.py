"""Reader of labelled images without boxes: a folder with images/ and labels.txt, one line an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowwatt.errors import ToolError

LABELS = "labels.txt"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class ClassData:
    """Images with one class each."""

    source: Path
    images: tuple[LabelledImage, ...]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ClassData:
        """The same with its first `count` images only."""
        return ClassData(self.source, self.images[:count])

    def every(self, step: int, others: bool = False) -> ClassData:
        """The same with every `step`th image only, or with all others."""
        chosen = tuple(image for index, image in enumerate(self.images) if (index % step == 0) != others)
        return ClassData(self.source, chosen)


def read_classes(root: str | Path) -> ClassData:
    """Read ROOT/labels.txt: on each line a file of ROOT/images and the index of its class; what follows is passed over.

    Raises ToolError for a file that is missing or holds other lines.
    """
    source = Path(root).expanduser() / LABELS
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        hint = "a classifier is measured on a folder with images/ and labels.txt: FILE CLASS, one line an image"
        raise ToolError("cannot read the labels", where=str(source), why=str(error), hint=hint) from None
    rows = [_row(line, f"{source}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ToolError("the data set has no images", where=str(source))
    return ClassData(source, tuple(LabelledImage(source.parent / "images" / name, label) for name, label in rows))


def _row(line: str, where: str) -> tuple[str, int]:
    words = line.split()
    if len(words) < 2 or not words[1].isdecimal():
        raise ToolError("a line of labels needs a file and the index of its class", where=where, why=line[:80])
    return words[0], int(words[1])
