"""Networks as others export them: one convolution an output, and behind it the tail of a published detector."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph
from lowwatt.types import Array

SIZE = (64, 96)
CLASSES = 3


def yolox(decoded: bool = False, strides: tuple[int, ...] = (8, 16), classes: int = CLASSES) -> Graph:
    """YOLOX's head, with or without its decoding, as the ONNX reader gives it."""
    graph = Graph("foreign")
    graph.add_input("images", (1, *SIZE, 3))
    parts = [_level(graph, stride, classes) for stride in strides]
    anchors = graph.add("concat", parts, "anchors", axis=2)
    listed = graph.add("transpose", [anchors], "listed", order=(0, 2, 1))
    graph.outputs = [_decode(graph, listed, strides, classes) if decoded else listed]
    return graph.verify()


def _level(graph: Graph, stride: int, classes: int) -> str:
    box, obj, cls = (
        convolution(graph, f"{word}{stride}", n, stride) for word, n in (("b", 4), ("o", 1), ("c", classes))
    )
    gates = [graph.add("sigmoid", [name], f"{name}.sigmoid") for name in (obj, cls)]
    joined = graph.add("concat", [box, *gates], f"joined{stride}", axis=3)
    turned = graph.add("transpose", [joined], f"{joined}.nchw", order=(0, 3, 1, 2))
    _, channels, rows, columns = graph.tensor(turned).shape
    return graph.add("reshape", [turned], f"{joined}.flat", shape=(1, channels, rows * columns))


def convolution(graph: Graph, name: str, channels: int, stride: int, scale: float = 0.02) -> str:
    """A convolution whose windows do not overlap, random weights."""
    random = np.random.default_rng(len(graph.tensors))
    weights = random.normal(0, scale / stride, (channels, stride, stride, 3)).astype(np.float32)
    bias = random.normal(0, 0.5, channels).astype(np.float32)
    operands = ["images", graph.add_constant(f"{name}.w", weights), graph.add_constant(f"{name}.b", bias)]
    return graph.add("conv2d", operands, name, stride=(stride, stride), origin=f"net.{name}")


def _decode(graph: Graph, listed: str, strides: tuple[int, ...], classes: int) -> str:
    """Megvii's decode_outputs: (xy + cell) * stride, exp(wh) * stride."""
    cells, steps = _grid(strides)
    grid = graph.add_constant("grid", cells[None])
    stride = graph.add_constant("stride", steps[None])
    count = 5 + classes
    xy, wh, scores = (_columns(graph, listed, a, b) for a, b in ((0, 2), (2, 4), (4, count)))
    centre = graph.add("mul", [graph.add("add", [xy, grid], "moved"), stride], "centre")
    size = graph.add("mul", [graph.add("exp", [wh], "grown"), stride], "size")
    return graph.add("concat", [centre, size, scores], "decoded", axis=2)


def _columns(graph: Graph, x: str, begin: int, end: int) -> str:
    _, anchors, _ = graph.tensor(x).shape
    return graph.add("slice", [x], f"from{begin}", begin=(0, 0, begin), end=(1, anchors, end), strides=(1, 1, 1))


def _grid(strides: tuple[int, ...]) -> tuple[Array, Array]:
    cells, steps = [], []
    for stride in strides:
        rows, columns = SIZE[0] // stride, SIZE[1] // stride
        cells.append([(x, y) for y in range(rows) for x in range(columns)])
        steps.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps)


def fastestdet(classes: int = CLASSES) -> Graph:
    """FastestDet's head, with the turns in front of and behind its softmax."""
    graph = Graph("foreign")
    graph.add_input("images", (1, *SIZE, 3))
    counts = (("o", 1), ("b", 4), ("c", classes))
    obj, box, cls = (convolution(graph, word, n, 16, scale=5.0) for word, n in counts)
    turned = graph.add("transpose", [cls], "turned", order=(0, 2, 1, 3))
    shares = graph.add("transpose", [graph.add("softmax", [turned], "shares", axis=3)], "back", order=(0, 2, 1, 3))
    gate = graph.add("sigmoid", [obj], "gate")
    graph.outputs = [graph.add("concat", [gate, box, shares], "map", axis=3)]
    return graph.verify()


def classifier(classes: int = 4, padded: bool = False) -> Graph:
    """A convolution, a mean, a linear layer and a softmax; `padded`: the convolution pads with zeros."""
    graph = Graph("foreign")
    graph.add_input("images", (1, *SIZE, 3))
    features = convolution(graph, "features", 6, 8, scale=2.0)
    if padded:
        graph.node(features).attrs["pad"] = (8, 8, 8, 8)
        graph.tensors[features].shape = (1, SIZE[0] // 8 + 2, SIZE[1] // 8 + 2, 6)
    kept = graph.add("relu", [features], "kept")
    mean = graph.add("reduce_mean", [kept], "mean", axes=(1, 2), keepdims=False)
    weights = np.random.default_rng(5).normal(0, 1, (classes, 6)).astype(np.float32)
    logits = graph.add("linear", [mean, graph.add_constant("l.w", weights)], "logits")
    graph.outputs = [graph.add("softmax", [logits], "scores", axis=1)]
    return graph.verify()
