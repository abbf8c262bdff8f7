"""What a search for a head gives: the raw maps and how to read them, or the reason why it is another head."""

from __future__ import annotations

from dataclasses import dataclass

from lowwatt.ir.graph import Graph
from lowwatt.types import DetectionHead, Preprocess, Shape


@dataclass(frozen=True, slots=True)
class Found:
    """A recognised head. `maps`: tensor of the graph → its name as an output, in order; `line` says it to the user."""

    maps: dict[str, str]
    head: DetectionHead
    preprocess: Preprocess
    line: str


class NotThisHead(Exception):
    """Why a graph does not end in the head that was looked for; a clause, for a user to read."""


def image_of(graph: Graph) -> Shape:
    """Shape (1, H, W, C) of the one image that the graph takes; NotThisHead where it takes something else."""
    shape = graph.tensor(graph.inputs[0]).shape if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
        raise NotThisHead("it does not take one gray or colour image")
    return shape
