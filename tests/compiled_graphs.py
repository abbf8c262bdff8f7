"""Small quantized networks that compiled xmodels are tested on: every operator, a float island, a dense layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams


def every_kind() -> Graph:
    """A network with each operator that the genuine file has, and some more."""
    random = np.random.default_rng(0)
    g = Graph("kinds")
    q = QuantParams.power_of_two(4)

    def weights(name: str, *shape: int) -> str:
        return g.add_constant(name, random.integers(-8, 8, shape).astype(np.int8), QuantParams.power_of_two(6))

    x = g.add_input("x", (1, 8, 8, 4), q)
    x = g.add("conv2d", [x, weights("w", 8, 3, 3, 4), weights("b", 8)], "conv", quant=q, pad=(1, 1, 1, 1))
    y = g.add("depthwise_conv2d", [x, weights("v", 1, 3, 3, 8), weights("c", 8)], "dw", quant=q, pad=(1, 1, 1, 1))
    x = g.add("add", [x, y], "sum", quant=q, activation="relu")
    x = g.add(
        "max_pool", [g.add("concat", [x, y], "both", quant=q, axis=3)], "pool", quant=q, kernel=(2, 2), stride=(2, 2)
    )
    x = g.add("resize", [x], "up", quant=q, scale=(2, 2), mode="nearest")
    g.outputs = [g.add("reshape", [x], "flat", quant=q, shape=(1, 1024))]
    return g


def hard_sigmoid() -> Graph:
    g = Graph("gate")
    x = g.add_input("x", (1, 4, 4, 16), QuantParams.power_of_two(4))
    g.outputs = [g.add("hard_sigmoid", [x], "gate", quant=QuantParams.power_of_two(7))]
    return g


def island() -> Graph:
    """Float operators between two parts of the accelerator, and integer ones that only the host has."""
    g, q = Graph("island"), QuantParams.power_of_two(4)
    x = g.add("max_pool", [g.add_input("x", (1, 8, 8, 4), q)], "before", quant=q, kernel=(2, 2), stride=(2, 2))
    half = g.add_constant("half", np.full((1, 4, 4, 4), 0.5, np.float32))
    y = g.add("softmax", [g.add("mul", [x, half], "scaled")], "soft", quant=QuantParams.power_of_two(7), axis=3)
    y = g.add("transpose", [y], "turned", quant=QuantParams.power_of_two(7), order=(0, 2, 1, 3))
    y = g.add("fix", [y], "rounded", quant=q, round_mode="PY3_ROUND")
    w = g.add_constant("w", np.full((4, 1, 1, 2), 3, np.int8), q)
    y = g.add("conv2d", [y, w], "grouped", quant=q, group=2)
    y = g.add("add", [x, y], "after", quant=q)
    g.outputs = [y, g.add("sigmoid", [y], "loose")]
    return g


def fully_connected() -> Graph:
    random, g, q = np.random.default_rng(1), Graph("linear"), QuantParams.power_of_two(4)
    x = g.add("reshape", [g.add_input("x", (1, 4, 4, 8), q)], "flat", quant=q, shape=(1, 128))
    w = g.add_constant("w", random.integers(-8, 8, (10, 128)).astype(np.int8), QuantParams.power_of_two(6))
    b = g.add_constant("b", random.integers(-8, 8, 10).astype(np.int8), QuantParams.power_of_two(6))
    g.outputs = [g.add("linear", [x, w, b], "dense", quant=q, activation="relu")]
    return g


NETWORKS = (every_kind, hard_sigmoid, island, fully_connected)


def subgraphs(subgraph: Any) -> Iterator[Any]:
    """A subgraph and all in it."""
    yield subgraph
    for child in subgraph.subg_child:
        yield from subgraphs(child)
