"""Class maps: which names of one data set stand for a class of another. YAML: class → list of the other's names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lowwatt import yaml_text
from lowwatt.errors import ToolError, did_you_mean

_FOLDER = Path(__file__).parent
_SHIPPED = ("objects365-coco",)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """`sources[k]` are the names that stand for the class `labels[k]`; a name stands for one class at most.

    >>> ClassMap(("bird",), (("Wild Bird", "Duck"),)).target()["duck"]
    'bird'
    """

    labels: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]

    def target(self) -> dict[str, str]:
        """Class by folded name of the other data set."""
        return {folded(name): label for label, names in zip(self.labels, self.sources, strict=True) for name in names}


def folded(name: str) -> str:
    """A name without regard to capitals and spaces around it: copies of one data set differ in these."""
    return name.strip().casefold()


def read_class_map(name: str | Path) -> ClassMap:
    """A shipped map by name, or a YAML file of one's own.

    Raises ToolError for an unreadable file, and for one that gives a name to two classes.

    >>> len(read_class_map("objects365-coco").labels)
    80
    """
    path = _FOLDER / f"{name}.yaml" if str(name) in _SHIPPED else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        hint = did_you_mean(str(name), _SHIPPED) if not path.suffix else ""
        raise ToolError("cannot read the class map", where=str(path), why=str(error), hint=hint) from None
    content = yaml_text.parse(text, "cannot read the class map", str(path))
    if not isinstance(content, dict) or not content or not all(map(_is_names, content.values())):
        raise ToolError("not a class map", where=str(path), why="it needs lines of the form class: [name, name …]")
    names = [folded(name) for row in content.values() for name in row]
    _refuse_twice(names, str(path))
    return ClassMap(tuple(map(str, content)), tuple(tuple(row) for row in content.values()))


def _is_names(row: object) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(name, str) for name in row)


def _refuse_twice(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ToolError(f"the class map has {name!r} twice", where=where, hint="a name stands for one class")
        seen.add(name)
