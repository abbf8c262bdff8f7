"""Small networks of one operator each, in all the forms that the .tflite writer says differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph
from lowwatt.types import Array

SHAPE = (1, 9, 11, 4)
Case = Callable[["OneOperator"], str]


class OneOperator:
    """A graph with input x, to which a case adds constants and its operator."""

    def __init__(self, shape: tuple[int, ...] = SHAPE) -> None:
        self.graph = Graph("case")
        self.graph.add_input("x", shape)
        self.random = np.random.default_rng(0)

    def constant(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.graph.add_constant(name, self.random.uniform(low, high, shape).astype(np.float32))

    def add(self, op: str, *inputs: str, name: str = "y", **attrs: Any) -> str:
        return self.graph.add(op, inputs or ["x"], name, **attrs)

    def layer(self, op: str, *shape: int, bias: bool = True, **attrs: Any) -> str:
        channels = shape[0] * shape[3] if op == "depthwise_conv2d" else shape[0]
        operands = ["x", self.constant("w", *shape)] + ([self.constant("b", channels)] if bias else [])
        return self.add(op, *operands, **attrs)


def _one(op: str, **attrs: Any) -> Case:
    return lambda case: case.add(op, **attrs)


def _layer(op: str, *shape: int, **attrs: Any) -> Case:
    return lambda case: case.layer(op, *shape, **attrs)


def _with_constant(op: str, *shape: int, low: float = -1.0, **attrs: Any) -> Case:
    return lambda case: case.add(op, "x", case.constant("c", *shape, low=low), **attrs)


def _flat(then: Case) -> Case:
    """Behind a reshape to vectors."""

    def case(one: OneOperator) -> str:
        one.graph.inputs, one.graph.tensors = [], {}
        one.graph.add_input("x", (3, 8))
        return then(one)

    return case


def _three(case: OneOperator) -> str:
    ends = [((0, 0, 0, i), (1, 9, 11, i + 2)) for i in range(3)]
    parts = [case.add("slice", name=f"s{b[3]}", begin=b, end=e, strides=(1,) * 4) for b, e in ends]
    return case.add("add", *parts, activation="relu")


def _focus(case: OneOperator) -> str:
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
    parts = [
        case.add("slice", name=f"s{i}{j}", begin=(0, i, j, 0), end=(1, 8 + i, 10 + j, 4), strides=(1, 2, 2, 1))
        for i, j in corners
    ]
    return case.add("concat", *parts, axis=3)


def _norm(case: OneOperator) -> str:
    names = [case.constant(name, 4, low=0.5) for name in ("scale", "bias", "mean", "variance")]
    return case.add("batch_norm", "x", *names)


def _root(case: OneOperator) -> str:
    return case.add("sqrt", case.add("relu", name="positive"))


SAME, ODD = (1, 1, 1, 1), (2, 0, 1, 3)

CASES: dict[str, Case] = {
    "conv same": _layer("conv2d", 6, 3, 3, 4, pad=SAME),
    "conv valid": _layer("conv2d", 6, 3, 2, 4, bias=False),
    "conv odd pad": _layer("conv2d", 6, 3, 3, 4, pad=ODD, activation="relu"),
    "conv stride": _layer("conv2d", 6, 3, 3, 4, pad=SAME, stride=(2, 2), activation="relu6"),
    "conv dilated": _layer("conv2d", 6, 3, 3, 4, pad=(2, 2, 2, 2), dilation=(2, 2)),
    "conv grouped": _layer("conv2d", 6, 3, 3, 2, pad=SAME, group=2),
    "conv leaky": _layer("conv2d", 6, 1, 1, 4, activation="leaky_relu"),
    "conv hard swish": _layer("conv2d", 6, 1, 1, 4, activation="hard_swish"),
    "conv hard sigmoid": _layer("conv2d", 6, 1, 1, 4, activation="hard_sigmoid"),
    "depthwise": _layer("depthwise_conv2d", 1, 3, 3, 4, pad=SAME, activation="relu"),
    "depthwise doubled": _layer("depthwise_conv2d", 2, 3, 3, 4, stride=(2, 2), pad=SAME),
    "depthwise dilated": _layer("depthwise_conv2d", 1, 3, 3, 4, pad=(2, 2, 2, 2), dilation=(2, 2)),
    "transposed": _layer("transposed_conv2d", 5, 2, 2, 4, stride=(2, 2)),
    "transposed same": _layer("transposed_conv2d", 5, 4, 4, 4, stride=(2, 2), pad=SAME),
    "transposed cut": _layer("transposed_conv2d", 5, 3, 3, 4, stride=(2, 2), pad=SAME, activation="relu"),
    "linear": _flat(_layer("linear", 5, 8, activation="relu")),
    "linear of a map": _layer("linear", 5, 4, bias=False),
    "batch norm": _norm,
    "max pool": _one("max_pool", kernel=(2, 2), stride=(2, 2)),
    "max pool same": _one("max_pool", kernel=(5, 5), stride=(1, 1), pad=(2, 2, 2, 2)),
    "max pool odd pad": _one("max_pool", kernel=(3, 3), stride=(2, 2), pad=(2, 0, 0, 2)),
    "max pool ceil": _one("max_pool", kernel=(2, 2), stride=(2, 2), ceil_mode=True),
    "average pool": _one("avg_pool", kernel=(3, 3), stride=(2, 2)),
    "average pool, padding counts": _one("avg_pool", kernel=(3, 3), stride=(1, 1), pad=SAME),
    "average pool same": _one("avg_pool", kernel=(3, 3), stride=(1, 1), pad=SAME, count_include_pad=False),
    "average pool of all": _one("avg_pool", kernel=(9, 11), stride=(1, 1)),
    "mean": _one("reduce_mean", axes=(1, 2), keepdims=False),
    "greatest": _one("reduce_max", axes=(-1,), keepdims=True),
    "relu": _one("relu"),
    "relu6": _one("relu6"),
    "leaky relu": _one("leaky_relu", alpha=26 / 256),
    "hard sigmoid": _one("hard_sigmoid"),
    "hard swish": _one("hard_swish"),
    "clip": _one("clip", min=-1.5, max=2.5),
    "clip above": _one("clip", min=-np.inf, max=0.5),
    "sigmoid": _one("sigmoid"),
    "silu": _one("silu"),
    "tanh": _one("tanh"),
    "exp": _one("exp"),
    "sqrt": _root,
    "neg": _one("neg"),
    "add": lambda case: case.add("add", "x", case.add("relu", name="r"), activation="relu"),
    "add of three": _three,
    "add by channel": _with_constant("add", 4),
    "mul": lambda case: case.add("mul", "x", case.add("sigmoid", name="gate")),
    "mul by channel": _with_constant("mul", 1, 1, 1, 4),
    "sub": _with_constant("sub", 9, 11, 1),
    "div": _with_constant("div", 4, low=0.5),
    "pow": lambda case: case.add("pow", case.add("relu", name="r"), case.constant("c", 1, low=1.5, high=2)),
    "softmax": _one("softmax", axis=-1),
    "softmax of rows": _one("softmax", axis=1),
    "concat": lambda case: case.add("concat", "x", case.add("relu", name="r"), axis=1),
    "focus": _focus,
    "slice": _one("slice", begin=(0, 2, -4, 1), end=(1, 9, 11, 3), strides=(1, 1, 1, 1)),
    "pad": _one("pad", pads=(0, 0, 1, 2, 0, 3, 0, 0)),
    "pad with a value": _one("pad", pads=(0, 0, 1, 0, 1, 0, 0, 0), value=1.5),
    "pad symmetric": _one("pad", pads=(0, 0, 1, 2, 3, 0, 0, 0), mode="symmetric"),
    "nearest": _one("resize", scale=(2.0, 2.0)),
    "nearest half": _one("resize", scale=(0.5, 0.5), half_pixel=True),
    "nearest aligned": _one("resize", scale=(2.0, 2.0), align_corners=True),
    "bilinear": _one("resize", scale=(2.0, 2.0), mode="bilinear"),
    "bilinear half": _one("resize", scale=(2.0, 3.0), mode="bilinear", half_pixel=True),
    "bilinear aligned": _one("resize", scale=(2.0, 2.0), mode="bilinear", align_corners=True),
    "reshape": _one("reshape", shape=(1, 99, 4)),
    "transpose": _one("transpose", order=(0, 3, 1, 2)),
    "identity": _one("identity"),
    "fix": _one("fix"),
}


def case_graph(name: str) -> Graph:
    """The network of a case."""
    one = OneOperator()
    output = CASES[name](one)
    one.graph.outputs = [output]
    return one.graph.verify()


def values(graph: Graph, count: int = 4, seed: int = 1) -> list[Array]:
    """Random inputs, of the order of 3."""
    random = np.random.default_rng(seed)
    return [random.normal(0, 3, graph.tensor("x").shape).astype(np.float32) for _ in range(count)]
