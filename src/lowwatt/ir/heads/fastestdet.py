"""FastestDet as its author exports it (github.com/dog-qiuqiu/FastestDet, test.py --onnx).

One map (1, 1 + 4 + classes, rows, columns): sigmoid(objectness), box, softmax(classes). Images are stretched to the
input and divided by 255 (test.py); the division goes into the first layer.
"""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.heads.found import Found, NotThisHead, free_name, image_of, tail_of
from lowwatt.types import Array, DetectionHead, Preprocess


def find(graph: Graph) -> Found:
    """Raw maps, stride and pre-processing; NotThisHead with the reason where the graph ends in something else."""
    image = image_of(graph)
    raw = _maps(graph)
    _prove(graph, raw)
    _, rows, columns, classes = graph.tensor(raw[0]).shape
    stride = image[1] // rows
    if (stride * rows, stride * columns) != image[1:3]:
        raise NotThisHead(f"a map of {rows}x{columns} does not divide the image of {image[1]}x{image[2]} evenly")
    names = [free_name(graph, f"{word}_{stride}", name) for word, name in zip(("cls", "box", "obj"), raw, strict=True)]
    head = DetectionHead((stride,), ((names[0], names[1], names[2]),), classes, "fastestdet")
    line = (
        f"stride {stride}, {image[1]}x{image[2]}, images stretched, "
        "cut before its sigmoid and softmax, so that 3 raw maps come out"
    )
    preprocess = Preprocess((image[1], image[2]), image[3], fit="stretch")
    return Found(dict(zip(raw, names, strict=True)), head, preprocess, "unit-bgr", line)


def _maps(graph: Graph) -> tuple[str, str, str]:
    """Raw class, box and objectness map behind the output."""
    producers = graph.producers()
    last = producers.get(graph.outputs[0]) if len(graph.outputs) == 1 else None
    if last is None or last.op != "concat" or len(last.inputs) != 3:
        raise NotThisHead("its output is no concat of objectness, box and classes")
    gate = producers.get(last.inputs[0])
    shares = _behind_moves(producers, last.inputs[2])
    if gate is None or gate.op != "sigmoid" or shares is None or shares.op != "softmax":
        raise NotThisHead("its output does not join sigmoid(objectness), box and softmax(classes)")
    logits, turned = shares.inputs[0], _behind_moves(producers, shares.inputs[0])
    raw = (turned.name if turned is not None else logits, last.inputs[1], gate.inputs[0])
    shapes = [graph.tensor(name).shape for name in raw]
    if any(len(shape) != 4 for shape in shapes) or len({shape[:3] for shape in shapes}) != 1:
        raise NotThisHead("its three maps differ in size")
    if (shapes[1][3], shapes[2][3]) != (4, 1):
        raise NotThisHead("its maps do not have 4 box channels and 1 of objectness")
    return raw


def _behind_moves(producers: dict[str, Node], name: str) -> Node | None:
    """The node that makes a tensor, seen through transposes."""
    node = producers.get(name)
    while node is not None and node.op == "transpose":
        node = producers.get(node.inputs[0])
    return node


def _prove(graph: Graph, raw: tuple[str, str, str]) -> None:
    """On random maps the operators behind them must give what FastestDet gives."""
    random = np.random.default_rng(0)
    maps = {name: random.normal(size=graph.tensor(name).shape).astype(np.float32) for name in raw}
    given = tail_of(graph, maps)
    classes, box, objectness = (maps[name].astype(np.float64) for name in raw)
    shares = np.exp(classes) / np.exp(classes).sum(axis=3, keepdims=True)
    wanted: Array = np.concatenate([1 / (1 + np.exp(-objectness)), box, shares], axis=3)
    if given.shape != wanted.shape or not np.allclose(given, wanted, rtol=1e-4, atol=1e-5):
        raise NotThisHead("what follows its maps is not sigmoid, nothing and softmax over the classes")
