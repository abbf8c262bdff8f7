"""Each rewrite that makes a graph legal for the machine: what it makes, and that the integers stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lowwatt.compiler.lowering.legalize import REWRITES, copies, legalize
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams

Q4, Q5, Q7 = (QuantParams.power_of_two(fix_point) for fix_point in (4, 5, 7))
RANDOM = np.random.default_rng(11)


def start(*shape: int) -> tuple[Graph, str]:
    g = Graph("net")
    return g, g.add_input("x", shape, Q4)


def weights(g: Graph, *shape: int) -> str:
    return g.add_constant("w", RANDOM.integers(-20, 20, shape).astype(np.int8), Q5)


def layer(op: str, shape: tuple[int, ...], kernel: tuple[int, ...], quant: QuantParams = Q4, **attrs: Any) -> Graph:
    g, x = start(*shape)
    g.outputs = [g.add(op, [x, weights(g, *kernel)], "y", quant=quant, **attrs)]
    return g


def hard_swish() -> Graph:
    return layer("conv2d", (1, 4, 4, 8), (8, 1, 1, 8), activation="hard_swish")


def hard_sigmoid() -> Graph:
    return layer("conv2d", (1, 4, 4, 8), (8, 1, 1, 8), Q7, activation="hard_sigmoid")


def multiplied_depthwise() -> Graph:
    return layer("depthwise_conv2d", (1, 8, 8, 3), (2, 3, 3, 3), pad=(1, 1, 1, 1))


def dilated_depthwise() -> Graph:
    return layer("depthwise_conv2d", (1, 8, 8, 6), (1, 3, 3, 6), dilation=(2, 2), pad=(2, 2, 2, 2))


def dilated_with_a_stride() -> Graph:
    return layer("conv2d", (1, 9, 9, 6), (4, 3, 3, 6), dilation=(2, 3), stride=(2, 2), pad=(2, 2, 3, 3))


def pool_that_moves() -> Graph:
    g, x = start(1, 8, 8, 4)
    g.outputs = [g.add("max_pool", [x], "y", kernel=(2, 2), stride=(2, 2), quant=Q5)]
    return g


def concat_of_one_twice() -> Graph:
    g, x = start(1, 8, 8, 4)
    y = g.add("max_pool", [x], "pool", kernel=(2, 2), stride=(2, 2), quant=Q4)
    g.outputs = [g.add("concat", [y, y], "y", axis=3, quant=Q4)]
    return g


def reshape_of_a_part() -> Graph:
    g, x = start(1, 8, 8, 4)
    part = g.add("slice", [x], "part", begin=(0, 0, 0, 1), end=(1, 8, 8, 3), strides=(1, 1, 1, 1), quant=Q4)
    flat = g.add("reshape", [part], "flat", shape=(1, 16, 4, 2), quant=Q4)
    g.outputs = [g.add("max_pool", [flat], "y", kernel=(2, 2), stride=(2, 2), quant=Q4)]
    return g


CASES: list[tuple[Callable[[], Graph], list[str]]] = [
    (hard_swish, ["conv2d", "hard_sigmoid", "mul"]),
    (hard_sigmoid, ["conv2d", "hard_sigmoid"]),
    (multiplied_depthwise, ["conv2d"]),
    (dilated_depthwise, ["depthwise_conv2d"]),
    (dilated_with_a_stride, ["conv2d"]),
    (pool_that_moves, ["max_pool", "identity"]),
    (concat_of_one_twice, ["max_pool", "identity", "concat"]),
    (reshape_of_a_part, ["slice", "identity", "reshape", "max_pool"]),
]


@pytest.mark.parametrize(("make", "ops"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_what_is_made_has_the_same_integers(make: Callable[[], Graph], ops: list[str]) -> None:
    graph = make()
    before = [(node.name, node.op, dict(node.attrs), list(node.inputs)) for node in graph.nodes]
    legal = legalize(graph)
    assert [node.op for node in legal.nodes] == ops
    assert [(node.name, node.op, dict(node.attrs), list(node.inputs)) for node in graph.nodes] == before
    values = {"x": RANDOM.integers(-128, 128, graph.tensor("x").shape).astype(np.int8)}
    expected, found = interpreter.run(graph, values), interpreter.run(legal, values)
    assert expected["y"].std() > 0 and np.array_equal(found["y"], expected["y"])


@pytest.mark.parametrize("half_pixel", [False, True])
def test_a_bilinear_resize_is_a_transposed_convolution_with_whole_weights(half_pixel: bool) -> None:
    g, x = start(1, 5, 6, 4)
    g.outputs = [g.add("resize", [x], "y", scale=(2.0, 2.0), mode="bilinear", half_pixel=half_pixel, quant=Q4)]
    legal = legalize(g)
    assert [node.op for node in legal.nodes] == ["pad", "transposed_conv2d"]
    tent = legal.tensor(legal.nodes[1].inputs[1])
    assert tent.data is not None and tent.quant is not None
    for phase in range(4):  # the weights that one output sees add up to one
        seen = tent.data[0, phase // 2 :: 2, phase % 2 :: 2, 0]
        assert seen.sum() == 2**tent.quant.fix_point


def test_copies_are_the_moves_that_somebody_outside_or_a_concat_sees() -> None:
    assert list(copies(legalize(concat_of_one_twice()))) == ["y.member1"]
    assert list(copies(legalize(pool_that_moves()))) == ["y"]
    assert list(copies(legalize(reshape_of_a_part()))) == []


def test_every_rewrite_says_what_it_does() -> None:
    assert all(rewrite.__doc__ for rewrite in REWRITES)
