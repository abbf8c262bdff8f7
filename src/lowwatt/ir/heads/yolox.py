"""YOLOX as its authors export it (github.com/Megvii-BaseDetection/YOLOX, tools/export_onnx.py).

For each stride a concat of box, sigmoid(objectness) and sigmoid(classes), then all anchors in one tensor
(1, anchors, 5 + classes), decoded (`--decode_in_inference`) or not. What the operators behind the concats do is not
matched one by one but proved: on random maps they must give what YOLOX gives. Pixels are 0…255; networks of the first
releases (demo.py --legacy) take them as torch has them, which no file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.heads.found import Found, NotThisHead, free_name, image_of, tail_of
from lowwatt.types import Array, DetectionHead, Preprocess, Shape

PAD = 114
"""Gray around the letterboxed image, as YOLOX is trained and evaluated (yolox/data/data_augment.py, preproc)."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One stride: the concat behind its three maps, and the maps as they are before any sigmoid."""

    joined: str
    shape: Shape
    stride: int
    box: str
    objectness: str
    classes: str


def find(graph: Graph) -> Found:
    """Raw maps, strides and pre-processing; NotThisHead with the reason where the graph ends in something else."""
    image = image_of(graph)
    levels = _levels(graph, image)
    form = _form(graph, levels)
    strides = tuple(level.stride for level in levels)
    maps: dict[str, str] = {}
    for level in levels:
        named = (("cls", level.classes), ("box", level.box), ("obj", level.objectness))
        maps.update({tensor: free_name(graph, f"{word}_{level.stride}", tensor) for word, tensor in named})
    outputs = tuple((maps[v.classes], maps[v.box], maps[v.objectness]) for v in levels)
    head = DetectionHead(strides, outputs, levels[0].shape[3] - 5)
    line = (
        f"strides {', '.join(map(str, strides))}, {image[1]}x{image[2]}, letterboxed to the top left on {PAD}, "
        f"cut before its sigmoids ({form}), so that {len(maps)} raw maps come out"
    )
    return Found(maps, head, Preprocess((image[1], image[2]), image[3], pad_value=PAD), "raw", line)


def _levels(graph: Graph, image: Shape) -> list[_Level]:
    """The strides, largest map first."""
    producers = graph.producers()
    found = [level for node in graph.nodes if (level := _level(graph, producers, node, image)) is not None]
    if not found:
        raise NotThisHead("no concat joins 4 box channels, sigmoid(1 channel) and sigmoid(classes)")
    if len({level.shape[3] for level in found}) != 1:
        raise NotThisHead("its strides differ in their number of classes")
    if len({level.stride for level in found}) != len(found):
        raise NotThisHead("two of its maps have the same stride")
    return sorted(found, key=lambda level: level.stride)


def _level(graph: Graph, producers: dict[str, Node], node: Node, image: Shape) -> _Level | None:
    """The stride that a node joins; None where it is no such concat."""
    shape = graph.tensor(node.name).shape
    if node.op != "concat" or len(node.inputs) != 3 or len(shape) != 4 or node.attrs["axis"] not in (3, -1):
        return None
    gates = [producers.get(name) for name in node.inputs[1:]]
    channels = [graph.tensor(name).shape[3] for name in node.inputs[:2]]
    objectness, classes = (gate.inputs[0] if gate and gate.op == "sigmoid" else "" for gate in gates)
    if channels != [4, 1] or not objectness or not classes:
        return None
    stride = image[1] // shape[1]
    if (stride * shape[1], stride * shape[2]) != (image[1], image[2]):
        raise NotThisHead(f"a map of {shape[1]}x{shape[2]} does not divide the image of {image[1]}x{image[2]} evenly")
    return _Level(node.name, shape, stride, node.inputs[0], objectness, classes)


def _form(graph: Graph, levels: Sequence[_Level]) -> str:
    """How the file gives its boxes, proved on random maps: "raw boxes" or "decoded boxes"."""
    random = np.random.default_rng(0)
    maps = {level.joined: random.normal(size=level.shape).astype(np.float32) for level in levels}
    given = tail_of(graph, maps)
    for form, decode in (("raw boxes", False), ("decoded boxes", True)):
        wanted = _anchors(levels, maps, decode)
        for layout in (wanted, wanted.transpose(0, 2, 1)):
            if given.shape == layout.shape and np.allclose(given, layout, rtol=1e-4, atol=1e-3):
                return form
    raise NotThisHead("what follows its maps is not YOLOX's list of anchors")


def _anchors(levels: Sequence[_Level], maps: dict[str, Array], decode: bool) -> Array:
    """YOLOX's own output for these maps, (1, anchors, 5 + classes)."""
    parts = []
    for level in levels:
        _, rows, columns, channels = level.shape
        values = maps[level.joined].reshape(1, rows * columns, channels).astype(np.float64)
        if decode:
            cells = np.stack([np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)], axis=1)
            values[..., :2] = (values[..., :2] + cells) * level.stride
            values[..., 2:4] = np.exp(values[..., 2:4]) * level.stride
        parts.append(values)
    return np.concatenate(parts, axis=1)
