"""What a search for a head gives: the raw maps and how to read them, or the reason why it is another head."""

from __future__ import annotations

from dataclasses import dataclass

from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.types import Array, ClassHead, DetectionHead, Preprocess, Shape


@dataclass(frozen=True, slots=True)
class Found:
    """A recognised head. `maps`: tensor of the graph → its name as an output, in order; `line` says it to the user.

    `pixels` is a word of `pixels.CONVENTIONS`: what the network takes.
    """

    maps: dict[str, str]
    head: DetectionHead | ClassHead
    preprocess: Preprocess
    pixels: str
    line: str


class NotThisHead(Exception):
    """Why a graph does not end in the head that was looked for; a clause, for a user to read."""


def image_of(graph: Graph) -> Shape:
    """Shape (1, H, W, C) of the one image that the graph takes; NotThisHead where it takes something else."""
    shape = graph.tensor(graph.inputs[0]).shape if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
        raise NotThisHead("it does not take one gray or colour image")
    return shape


def tail_of(graph: Graph, maps: dict[str, Array]) -> Array:
    """What the operators behind these tensors make of given values; NotThisHead where the output hangs on more."""
    if len(graph.outputs) != 1:
        raise NotThisHead(f"it has {len(graph.outputs)} outputs, not one")
    tail = graph.copy()
    tail.nodes = [node for node in tail.nodes if node.name not in maps]
    tail.inputs = list(maps)
    tail.prune()
    try:
        tail.verify()
        return interpreter.run(tail, maps)[tail.outputs[0]]
    except ToolError:
        raise NotThisHead("its output hangs on more than these maps") from None


def free_name(graph: Graph, wanted: str, tensor: str) -> str:
    """The name for an output: the wanted one, unless another tensor has it."""
    return tensor if wanted in graph.tensors else wanted
