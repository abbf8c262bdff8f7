"""Typed access to `Graph.meta`: pre-processing, detection head, labels and category ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.types import DetectionHead, Preprocess


def set_preprocess(graph: Graph, preprocess: Preprocess) -> None:
    """Store how images become the network's input."""
    graph.meta["preprocess"] = dataclasses.asdict(preprocess)


def preprocess(graph: Graph) -> Preprocess:
    """How images become the network's input; from the input's shape where nothing was stored."""
    stored = graph.meta.get("preprocess")
    if stored is not None:
        return Preprocess(**{**stored, "size": tuple(stored["size"])})
    if len(graph.inputs) == 1 and len(shape := graph.tensor(graph.inputs[0]).shape) == 4 and shape[3] in (1, 3):
        return Preprocess((shape[1], shape[2]), shape[3])
    raise ToolError("the graph does not take one image", where=graph.name)


def set_head(graph: Graph, head: DetectionHead, labels: Sequence[str], category_ids: Sequence[int]) -> None:
    """Store how the outputs are read, and what the classes are called."""
    graph.meta["head"] = dataclasses.asdict(head)
    graph.meta["labels"] = list(labels)
    graph.meta["category_ids"] = list(category_ids)


def head(graph: Graph) -> DetectionHead:
    """How the outputs are read; ToolError where the graph is no detector of ours."""
    stored = graph.meta.get("head")
    if stored is None:
        raise ToolError(
            "the graph has no detection head",
            where=graph.name,
            hint="detect and eval need a model made by `lowwatt train` or `lowwatt produce`",
        )
    outputs = tuple((o[0], o[1], o[2]) for o in stored["outputs"])
    return DetectionHead(tuple(stored["strides"]), outputs, stored["num_classes"])


def labels(graph: Graph) -> tuple[str, ...]:
    """Class names, by label index; empty where none are stored."""
    return tuple(graph.meta.get("labels", ()))


def category_ids(graph: Graph) -> tuple[int, ...]:
    """The data set's own category ids, by label index."""
    stored = graph.meta.get("category_ids")
    return tuple(stored) if stored is not None else tuple(range(1, len(labels(graph)) + 1))
