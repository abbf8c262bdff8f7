"""Operator rules: where each operator runs, why not, and what to change."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lowwatt.compiler.rules import RULES, Verdict, check, group
from lowwatt.ir.graph import Graph
from lowwatt.ir.ops import operator_names
from lowwatt.targets import Target, load_target

LPCV = load_target("ultra96v2-lpcv")
ISA1 = dataclasses.replace(load_target("kv260"), isa=1)


def one(op: str, image: tuple[int, ...] = (1, 16, 16, 24), weights: tuple[int, ...] = (), **attrs: Any) -> Graph:
    """Graph of a convolution that makes the map, and the operator."""
    g = Graph()
    x = g.add_input("image", image)
    kernel = np.broadcast_to(np.float32(0), (image[-1], 1, 1, image[-1]))
    if len(image) == 4:
        x = g.add("conv2d", [x, g.add_constant("k", kernel)], "before")
    operands = [x, g.add_constant("w", np.broadcast_to(np.float32(0), weights))] if weights else [x]
    g.outputs = [g.add(op, operands, "node", **attrs)]
    return g


def judge(graph: Graph, target: Target = LPCV) -> Verdict:
    return check(graph, target)[-1]


TAKEN = [
    one("conv2d", weights=(12, 3, 3, 24), pad=(1, 1, 1, 1), activation="relu"),
    one("conv2d", weights=(12, 16, 16, 24)),
    one("conv2d", weights=(12, 3, 3, 24), dilation=(5, 5), pad=(5, 5, 5, 5)),
    one("conv2d", weights=(12, 3, 3, 24), activation="leaky_relu", alpha=26 / 256),
    one("conv2d", weights=(12, 16, 16, 24), stride=(9, 9)),  # the kernel covers the whole input
    one("depthwise_conv2d", weights=(1, 3, 3, 24), activation="relu6"),
    one("transposed_conv2d", weights=(12, 4, 4, 24), stride=(2, 2), pad=(1, 1, 1, 1)),
    one("max_pool", kernel=(5, 5), stride=(1, 1), pad=(2, 2, 2, 2)),
    one("max_pool", kernel=(3, 3), stride=(2, 2), ceil_mode=True),
    one("avg_pool", kernel=(8, 8), stride=(8, 8)),
    one("reduce_mean", (1, 7, 7, 24), axes=(1, 2), keepdims=True),
    one("relu"),
    one("leaky_relu", alpha=26 / 256),
    one("resize", scale=(2.0, 2.0)),
    one("resize", scale=(2.0, 2.0), mode="bilinear", half_pixel=True),
    one("pad", pads=(0, 0, 1, 1, 1, 1, 0, 0)),
    one("pad", pads=(0, 0, 1, 0, 0, 1, 0, 0), mode="symmetric"),
    one("slice", begin=(0, 0, 0, 12), end=(1, 16, 16, 24), strides=(1, 1, 1, 1)),
    one("reshape", shape=(1, 16 * 16 * 24)),
]


@pytest.mark.parametrize("graph", TAKEN, ids=lambda g: g.nodes[-1].op)
def test_taken(graph: Graph) -> None:
    verdict = judge(graph)
    assert verdict == Verdict("node", graph.nodes[-1].op, "dpu", origin="node")


LEFT = [
    (one("conv2d", (1, 20, 20, 24), (12, 17, 1, 24)), "1 to 16", "17x1"),
    (one("conv2d", weights=(12, 3, 3, 24), stride=(9, 9)), "Strides", "9x9"),
    (one("conv2d", weights=(12, 3, 3, 24), pad=(4, 0, 0, 0)), "Pads", "(4, 0, 0, 0)"),
    (one("conv2d", (1, 16, 16, 1200), (12, 5, 5, 1200)), "bank", "2500 words"),
    (one("conv2d", (1, 16, 16, 1200), (12, 3, 1, 1200), dilation=(3, 1)), "channel groups", "3600, at most 3072"),
    (one("conv2d", weights=(3073, 1, 1, 24)), "Output channels", "3073"),
    (one("conv2d", weights=(24, 3, 3, 12), group=2), "group", "group 2"),
    (one("conv2d", weights=(12, 3, 3, 24), activation="leaky_relu", alpha=0.1), "26/256", "slope 0.1"),
    (one("conv2d", weights=(12, 3, 3, 24), activation="hard_swish"), "activation", "hard_swish"),
    (one("depthwise_conv2d", weights=(1, 3, 3, 24), activation="leaky_relu"), "ReLU6", "leaky_relu"),
    (one("linear", (1, 25000), (10, 25000)), "bank", "2084 words"),
    (one("max_pool", kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4)), "1 to 8", "9x9"),
    (one("avg_pool", kernel=(3, 2), stride=(1, 1)), "square", "3x2"),
    (one("reduce_mean", axes=(1, 2), keepdims=True), "2 to 8", "16x16"),
    (one("reduce_mean", axes=(3,), keepdims=True), "height and width", "(3,)"),
    (one("hard_sigmoid"), "no such operator", "hard_sigmoid"),
    (one("leaky_relu", alpha=0.1), "26/256", "slope 0.1"),
    (one("resize", scale=(1.5, 1.5)), "whole factors", "1.5"),
    (one("resize", scale=(2.0, 4.0), mode="bilinear"), "bilinear", "2 x 4"),
    (one("resize", scale=(2.0, 2.0), align_corners=True), "align corners", "align_corners"),
    (one("slice", begin=(0, 0, 0, 0), end=(1, 16, 16, 24), strides=(1, 2, 1, 1)), "stride 1", "(1, 2, 1, 1)"),
    (one("slice", begin=(0, 1, 0, 0), end=(1, 16, 16, 24), strides=(1, 1, 1, 1)), "channels alone", "15"),
    (one("pad", pads=(0, 0, 2, 2, 2, 2, 0, 0), mode="symmetric"), "mirrors one row", "symmetric"),
    (one("pad", pads=(0, 0, 0, 0, 0, 0, 0, 4)), "height and width alone", "constant"),
    (one("concat", axis=1), "channels", "axis 1"),
    (one("softmax", axis=3), "no such operator", "softmax"),
    (one("custom", type="PPScatter", shape=(1, 4)), "no such operator", "PPScatter"),
]


@pytest.mark.parametrize("graph, rule, here", LEFT, ids=lambda g: g.nodes[-1].op if isinstance(g, Graph) else "")
def test_left_to_the_host(graph: Graph, rule: str, here: str) -> None:
    verdict = judge(graph)
    assert verdict.where == "host"
    assert any(rule in reason and here in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    "graph",
    [
        one("max_pool", kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4)),
        one("max_pool", kernel=(13, 13), stride=(1, 1), pad=(6, 6, 6, 6)),
        one("hard_sigmoid"),
        one("hard_swish"),
        one("reduce_mean", axes=(1, 2), keepdims=True),
        one("conv2d", weights=(12, 3, 3, 24), activation="hard_swish"),
    ],
    ids=lambda g: g.nodes[-1].op,
)
def test_isa1_takes_what_isa0_does_not(graph: Graph) -> None:
    assert judge(graph).where == "host"
    assert judge(graph, ISA1).where == "dpu"


@pytest.mark.parametrize(
    "graph, words",
    [
        (one("silu"), "ReLU"),
        (one("max_pool", kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4)), "2 chained 5x5 pools"),
        (one("max_pool", kernel=(13, 13), stride=(1, 1), pad=(6, 6, 6, 6)), "3 chained 5x5 pools"),
        (one("slice", begin=(0, 0, 0, 0), end=(1, 16, 16, 24), strides=(1, 2, 2, 1)), "three 3x3 convolutions"),
        (one("sigmoid"), "raw outputs"),
    ],
    ids=["silu", "spp9", "spp13", "focus", "sigmoid"],
)
def test_what_to_change(graph: Graph, words: str) -> None:
    assert words in judge(graph).remedy


def test_chained_pools_are_the_same_function() -> None:
    """The remedy's claim, on a map: two 5x5 max pools see 9x9, three see 13x13."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(24, 24))

    def pool(x: np.ndarray, side: int) -> np.ndarray:
        padded = np.pad(x, side // 2, constant_values=-np.inf)
        return np.lib.stride_tricks.sliding_window_view(padded, (side, side)).max((2, 3))

    assert np.array_equal(pool(pool(values, 5), 5), pool(values, 9))
    assert np.array_equal(pool(pool(pool(values, 5), 5), 5), pool(values, 13))


def test_silu_written_as_two_operators_is_recognised() -> None:
    g = one("sigmoid")
    g.outputs = [g.add("mul", ["before", "node"], "gated")]
    sigmoid, mul = check(g, LPCV)[-2:]
    assert "ReLU" in sigmoid.remedy and "ReLU" in mul.remedy


def test_nodes_with_one_reason_are_one_group() -> None:
    g = one("silu")
    g.add("silu", ["before"], "other")
    g.outputs.append(g.add("softmax", ["before"], "soft", axis=3))
    groups = group(check(g, LPCV))
    assert [(first.op, nodes) for first, nodes in groups] == [("silu", ["node", "other"]), ("softmax", ["soft"])]


def test_an_activation_needs_a_convolution_before_it() -> None:
    g = Graph()
    g.outputs = [g.add("relu", [g.add_input("x", (1, 4, 4, 3))], "node")]
    assert "graph input" in judge(g).reasons[0]
    g = one("max_pool", kernel=(2, 2), stride=(2, 2))
    g.outputs = [g.add("relu", ["node"], "late")]
    assert "follows max_pool" in judge(g).reasons[0]


def test_moves_stay_on_the_side_of_their_input() -> None:
    g = one("silu")
    g.outputs = [g.add("reshape", ["node"], "flat", shape=(1, 16 * 16 * 24))]
    assert judge(g).where == "host" and judge(g).reasons


def test_options_of_the_core_count() -> None:
    bare = dataclasses.replace(LPCV.options, leaky_relu=False, relu6=False, depthwise=False, average_pool=False)
    target = dataclasses.replace(LPCV, options=bare)
    for graph in (
        one("conv2d", weights=(12, 3, 3, 24), activation="leaky_relu"),
        one("conv2d", weights=(12, 3, 3, 24), activation="relu6"),
        one("depthwise_conv2d", weights=(1, 3, 3, 24)),
        one("avg_pool", kernel=(2, 2), stride=(2, 2)),
    ):
        assert judge(graph).where == "dpu"
        assert judge(graph, target).where == "host"


def test_mul_needs_the_option_on_isa0() -> None:
    g = one("relu")
    g.outputs = [g.add("mul", ["node", "before"], "product")]
    with_mul = dataclasses.replace(LPCV, options=dataclasses.replace(LPCV.options, eltwise_mul=True))
    assert judge(g).where == "host"
    assert judge(g, with_mul).where == "dpu"


def test_a_flattened_map_is_one_large_convolution() -> None:
    g = one("reshape", (1, 7, 7, 512), shape=(1, 7 * 7 * 512))
    weights = g.add_constant("w", np.broadcast_to(np.float32(0), (100, 7 * 7 * 512)))
    g.outputs = [g.add("linear", ["node", weights], "fc")]
    assert judge(g, load_target("kv260")).where == "dpu"  # 49 * 32 words
    assert "words" in judge(g).reasons[0]  # 49 * 43 words on the smaller array


def test_rules_name_known_operators_and_say_what_they_mean() -> None:
    for table in RULES.values():
        assert set(table) <= set(operator_names())
        for limit in (limit for limits in table.values() for limit in limits):
            assert limit.__doc__ and limit.__doc__.strip().endswith(".")
