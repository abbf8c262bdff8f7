"""Heads of networks that were trained elsewhere: recognised by their last operators, cut off, and stated in the meta.

A published detector ends in sigmoids, concats and decoding. Here these belong to post-processing, which does them only
for the few boxes that count; the chip gives the raw maps. `KINDS` lists what is known; a new kind is one new file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.ir.heads import classes, fastestdet, yolox
from lowwatt.ir.heads.found import Found, NotThisHead
from lowwatt.ir.heads.labels import check_count, labels_for
from lowwatt.ir.heads.pixels import convention, take_pixels
from lowwatt.types import ClassHead

KINDS: dict[str, Callable[[Graph], Found]] = {
    "a YOLOX detector": yolox.find,
    "a FastestDet": fastestdet.find,
    "a classifier": classes.find,
}
"""What a network can be → the function that finds its raw maps, or raises NotThisHead with the reason."""


def attach_head(graph: Graph, labels: Sequence[str] = (), pixels: str = "") -> str:
    """Cut the tail off, in place, and store head, pre-processing and labels; returns one line that says what was done.

    A graph that states its head is left as it is, and the line is empty. `labels` are the names of the classes; a
    detector needs them unless their number tells them (80: COCO). `pixels` is a word for what the network takes
    (`pixels.CONVENTIONS`), where it is not what the kind takes as a rule. ToolError where no known tail is found, with
    the reason for each kind, and where names are missing.
    """
    if meta.has_head(graph):
        return ""
    reasons = []
    for name, find in KINDS.items():
        try:
            found = find(graph)
        except NotThisHead as reason:
            reasons.append(f"not {name}: {reason}")
            continue
        return f"recognised {name}: {_attach(graph, found, labels, pixels)}"
    raise ToolError(
        "the graph has no detection head of a known kind",
        where=graph.name,
        why="; ".join(reasons),
        hint="train with `lowwatt train`, or export the detector as its authors do",
    )


def _attach(graph: Graph, found: Found, labels: Sequence[str], pixels: str) -> str:
    head, taken = found.head, convention(pixels or found.pixels)
    if isinstance(head, ClassHead):
        whose = check_count(head.num_classes, labels, where=graph.name)
        _cut(graph, found.maps)
        meta.set_head(graph, head, labels)
    else:
        names, category_ids, whose = labels_for(head.num_classes, labels, where=graph.name)
        _cut(graph, found.maps)
        meta.set_head(graph, head, names, category_ids)
    take_pixels(graph, taken)
    meta.set_preprocess(graph, found.preprocess)
    told = "told by you" if pixels else f"taken to be {found.pixels}; --pixels tells another"
    line = f"{head.num_classes} classes ({whose}), {found.line}; pixels {taken.what} ({told})"
    return "; ".join([line, *graph.meta.get("notes", ())])


def _cut(graph: Graph, maps: dict[str, str]) -> None:
    """Let the graph end in these tensors, under new names where those are free of other tensors."""
    graph.outputs = list(maps)
    graph.prune()
    for name, wanted in maps.items():
        graph.rename(name, wanted)
    layouts = graph.meta.get("source_layout", {})
    kept = {name: layout for name, layout in layouts.items() if name in graph.inputs}
    planes = [name for name in graph.outputs if len(graph.tensor(name).shape) == 4]
    graph.meta["source_layout"] = {**kept, **dict.fromkeys(planes, "NCHW")}
    graph.verify()
