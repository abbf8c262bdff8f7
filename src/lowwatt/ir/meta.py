"""Typed access to `Graph.meta`: pre-processing, head, labels and category ids, scheme.

What is read may come from a damaged file: every reader raises ToolError for values of another kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.records import Reader, WrongValue
from lowwatt.types import ClassHead, DetectionHead, Head, Preprocess, SegmentationHead

_T = TypeVar("_T")
_Classes = TypeVar("_Classes", ClassHead, SegmentationHead)
_KEYS: dict[type[Head], str] = {DetectionHead: "head", ClassHead: "classifier", SegmentationHead: "segmenter"}
_LARGEST_SIDE = 1 << 14
"""Pixels; an input beyond that is a damaged number, not a network."""


@dataclasses.dataclass(frozen=True, slots=True)
class SchemeName:
    """A scheme's name and the formats that its target's tools read, the usual one first."""

    name: str
    exports: tuple[str, ...]


def set_preprocess(graph: Graph, preprocess: Preprocess) -> None:
    """Store how images become the network's input."""
    graph.meta["preprocess"] = dataclasses.asdict(preprocess)


def preprocess(graph: Graph) -> Preprocess:
    """How images become the network's input; from the input's shape where nothing was stored."""
    stored = graph.meta.get("preprocess")
    if stored is not None:
        found = _read(graph, "preprocess", stored, Preprocess)
        if found.channels not in (1, 3) or not all(1 <= side <= _LARGEST_SIDE for side in found.size):
            raise _wrong(graph, "preprocess", f"size {found.size}, {found.channels} channels")
        if not 0 <= found.pad_value <= 255:
            raise _wrong(graph, "preprocess", f"padding with {found.pad_value}")
        return found
    if len(graph.inputs) == 1 and len(shape := graph.tensor(graph.inputs[0]).shape) == 4 and shape[3] in (1, 3):
        return Preprocess((shape[1], shape[2]), shape[3])
    raise ToolError("the graph does not take one image", where=graph.name)


def set_head(graph: Graph, head: Head, labels: Sequence[str], category_ids: Sequence[int] = ()) -> None:
    """Store how the outputs are read, and what the classes are called (empty: only numbered)."""
    graph.meta[_KEYS[type(head)]] = dataclasses.asdict(head)
    graph.meta["labels"] = list(labels)
    if category_ids:
        graph.meta["category_ids"] = list(category_ids)


def has_head(graph: Graph) -> bool:
    """Whether the graph states what it is for."""
    return any(key in graph.meta for key in _KEYS.values())


def classifier(graph: Graph) -> ClassHead | None:
    """How a classifier's output is read; None where the graph is none."""
    return _class_head(graph, ClassHead)


def segmenter(graph: Graph) -> SegmentationHead | None:
    """How a segmenter's output is read; None where the graph is none."""
    found = _class_head(graph, SegmentationHead)
    if found is not None and len(graph.tensor(found.output).shape) != 4:
        raise _wrong(graph, _KEYS[SegmentationHead], f"output {found.output} is no map")
    return found


def _class_head(graph: Graph, kind: type[_Classes]) -> _Classes | None:
    key = _KEYS[kind]
    stored = graph.meta.get(key)
    if stored is None:
        return None
    found = _read(graph, key, stored, kind)
    if found.output not in graph.outputs or graph.tensor(found.output).shape[-1:] != (found.num_classes,):
        raise _wrong(graph, key, f"output {found.output} of {found.num_classes} classes")
    return found


def head(graph: Graph) -> DetectionHead:
    """How a detector's outputs are read; ToolError where the graph is no detector of ours."""
    stored = graph.meta.get("head")
    if stored is None:
        raise ToolError(
            "the graph has no detection head",
            where=graph.name,
            why=next((f"it is a {key}" for key in _KEYS.values() if key in graph.meta), ""),
            hint="this needs a detector made by `lowwatt train` or `lowwatt produce`",
        )
    found = _read(graph, "head", stored, DetectionHead)
    if len(found.outputs) != len(found.strides) or min((*found.strides, found.num_classes)) < 1:
        raise _wrong(graph, "head", f"strides {found.strides}, {found.num_classes} classes")
    return found


def labels(graph: Graph) -> tuple[str, ...]:
    """Class names, by label index; empty where none are stored."""
    return _read(graph, "labels", graph.meta.get("labels", ()), tuple[str, ...])


def category_ids(graph: Graph) -> tuple[int, ...]:
    """The data set's own category ids, by label index."""
    stored = graph.meta.get("category_ids")
    if stored is None:
        return tuple(range(1, len(labels(graph)) + 1))
    return _read(graph, "category_ids", stored, tuple[int, ...])


def set_scheme(graph: Graph, name: str, exports: Sequence[str]) -> None:
    """Store which scheme a graph was quantized for, and the formats that the target's tools read."""
    graph.meta["scheme"] = {"name": name, "exports": list(exports)}


def scheme(graph: Graph) -> SchemeName | None:
    """What `set_scheme` stored; None for a graph that comes from elsewhere."""
    stored = graph.meta.get("scheme")
    return None if stored is None else _read(graph, "scheme", stored, SchemeName)


def _read(graph: Graph, key: str, stored: Any, kind: type[_T]) -> _T:
    try:
        return Reader().read(kind, stored)
    except WrongValue as error:
        place = ".".join(map(str, (key, *error.place)))
        raise _wrong(graph, place, error.why) from None


def _wrong(graph: Graph, key: str, why: str) -> ToolError:
    return ToolError("the graph's description of itself is damaged", where=f"{graph.name}, {key}", why=why)
