"""Float networks that exports are tested on: one of every kind of operator, and YOLOX, with random weights."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph
from lowwatt.types import Array
from yolox_graph import yolox_graph

PIXELS = 128.0
"""Weights of the first layer are divided by it, so that maps are of the order of 1."""


class TargetGraph:
    """Residual addition, concat, depthwise and transposed layers, pools, resize, SiLU, sigmoid, linear."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("targets")
        self.graph.add_input("image", (1, size, size, 3))
        self._backbone()
        self._ends(size)

    def _layer(self, op: str, x: str, name: str, *shape: int, **attrs: object) -> str:
        fan = shape[1] * shape[2] if op == "depthwise_conv2d" else int(np.prod(shape[1:]))
        outputs = shape[0] * shape[3] if op == "depthwise_conv2d" else shape[0]
        weights = self.random.normal(size=shape) * np.sqrt(2 / fan) / (PIXELS if x == "image" else 1)
        self.graph.add_constant(f"{name}.weights", weights.astype(np.float32))
        self.graph.add_constant(f"{name}.bias", (0.1 * self.random.normal(size=outputs)).astype(np.float32))
        return self.graph.add(op, [x, f"{name}.weights", f"{name}.bias"], name, **attrs)

    def _backbone(self) -> None:
        g, same = self.graph, {"pad": (1, 1, 1, 1)}
        self._layer("conv2d", "image", "stem", 8, 3, 3, 3, **same)
        g.add("relu", ["stem"], "stem.act")
        self._layer("conv2d", "stem.act", "branch", 8, 3, 3, 8, **same)
        g.add("add", ["branch", "stem.act"], "sum")
        g.add("relu", ["sum"], "sum.act")
        self._layer("depthwise_conv2d", "sum.act", "depthwise", 1, 3, 3, 8, **same)
        g.add("relu6", ["depthwise"], "depthwise.act")
        self._layer("conv2d", "depthwise.act", "point", 8, 1, 1, 8)
        g.add("silu", ["point"], "point.act")
        g.add("max_pool", ["point.act"], "largest", kernel=(2, 2), stride=(2, 2))
        g.add("avg_pool", ["stem.act"], "mean", kernel=(2, 2), stride=(2, 2))
        g.add("concat", ["largest", "mean"], "joined", axis=3)

    def _ends(self, size: int) -> None:
        g = self.graph
        self._layer("conv2d", "joined", "deep", 8, 3, 3, 16, pad=(1, 1, 1, 1))
        g.add("leaky_relu", ["deep"], "deep.act", alpha=26 / 256)
        g.add("resize", ["deep.act"], "larger", scale=(2.0, 2.0))
        self._layer("transposed_conv2d", "deep.act", "unpooled", 8, 2, 2, 8, stride=(2, 2))
        g.add("concat", ["larger", "unpooled"], "wide", axis=3)
        self._layer("conv2d", "wide", "logits", 6, 1, 1, 16)
        g.add("sigmoid", ["logits"], "score")
        g.add("avg_pool", ["wide"], "pooled", kernel=(size, size), stride=(size, size))
        g.add("reshape", ["pooled"], "flat", shape=(1, 16))
        self._layer("linear", "flat", "classes", 10, 16)
        g.outputs = ["logits", "score", "classes"]


def target_graph(size: int = 16) -> Graph:
    """The network of every kind of operator."""
    return TargetGraph(size).graph.verify()


def random_yolox(width: float = 0.25, size: int = 64, seed: int = 0) -> Graph:
    """YOLOX with random weights and biases; its heads have no activation."""
    random, graph = np.random.default_rng(seed), yolox_graph(width, size)
    for node in [node for node in graph.nodes if node.op == "conv2d"]:
        weights = graph.tensor(node.inputs[1])
        scale = np.sqrt(2 / np.prod(weights.shape[1:])) / (PIXELS if node.inputs[0] == "image" else 1)
        weights.data = (scale * random.normal(size=weights.shape)).astype(np.float32)
        bias = (0.1 * random.normal(size=weights.shape[0])).astype(np.float32)
        node.inputs.append(graph.add_constant(f"{node.name}.bias", bias))
        node.attrs["activation"] = "none" if node.name in graph.outputs else "relu"
    return graph.verify()


def images(graph: Graph, count: int = 2, seed: int = 0) -> list[Array]:
    """Random images, 0…255, float32."""
    random, shape = np.random.default_rng(seed), graph.tensor(graph.inputs[0]).shape
    return [random.integers(0, 256, shape).astype(np.float32) for _ in range(count)]
