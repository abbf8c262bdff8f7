"""Passes keep the numbers and the names of the ends, and do what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lowwatt.errors import ToolError
from lowwatt.ir.fold import fold_constants
from lowwatt.ir.graph import Graph
from lowwatt.ir.moves import cancel_transposes, sink_transposes, straighten_moves
from lowwatt.ir.passes import (
    FLOAT_PASSES,
    fold_affine,
    fold_batch_norm,
    fold_pads,
    fuse_activations,
    global_mean_to_pool,
    lower_batch_norm,
    prepare_for_quantization,
    remove_dead,
    remove_identities,
    run_passes,
)
from lowwatt.ir.patterns import fuse_hard, fuse_silu
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array

RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def start(*shape: int) -> Graph:
    graph = Graph("g")
    graph.add_input("x", shape or (1, 6, 5, 4))
    return graph


def conv(graph: Graph, source: str, name: str, **attrs: Any) -> str:
    channels = graph.tensor(source).shape[3]
    graph.add_constant(f"{name}.weight", values(3, 3, 3, channels))
    return graph.add("conv2d", [source, f"{name}.weight"], name, origin=f"net.{name}", **attrs)


def norm(graph: Graph, source: str, name: str) -> str:
    channels = graph.tensor(source).shape[-1]
    parts = {"weight": values(channels), "bias": values(channels), "mean": values(channels)}
    parts["var"] = np.abs(values(channels)) + 0.5
    names = [graph.add_constant(f"{name}.{word}", data) for word, data in parts.items()]
    return graph.add("batch_norm", [source, *names], name, eps=1e-3)


def results(graph: Graph) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(np.random.default_rng(1).uniform(-2, 2, graph.tensor("x").shape).astype(np.float32))
    with torch.no_grad():
        return TorchExecutor(graph)({"x": x})


def check(graph: Graph, rewrite: object, expected: list[str]) -> None:
    """The pass changes the graph, to these operators; then it finds nothing more; numbers and outputs stay."""
    before, outputs = results(graph), list(graph.outputs)
    assert rewrite(graph)  # type: ignore[operator]
    graph.verify()
    assert [node.op for node in graph.nodes] == expected
    assert not rewrite(graph)  # type: ignore[operator]
    assert graph.outputs == outputs
    after = results(graph)
    for name in outputs:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-5)


def test_batch_norm_folds_into_every_layer() -> None:
    graph = start()
    graph.add_constant("t.weight", values(3, 2, 2, 4))
    graph.add_constant("d.weight", values(2, 3, 3, 4))
    graph.add_constant("d.bias", values(8))
    graph.add("transposed_conv2d", ["x", "t.weight"], "t", stride=(2, 2))
    graph.add("depthwise_conv2d", ["x", "d.weight", "d.bias"], "d")
    graph.outputs = [norm(graph, name, f"{name}.bn") for name in (conv(graph, "x", "c"), "t", "d")]
    check(graph, fold_batch_norm, ["transposed_conv2d", "depthwise_conv2d", "conv2d"])
    assert [node.name for node in graph.nodes] == ["t.bn", "d.bn", "c.bn"]


def test_the_layers_name_stays_inside_the_graph() -> None:
    graph = start()
    graph.add("relu", [norm(graph, conv(graph, "x", "c"), "bn")], "out")
    graph.outputs = ["out"]
    check(graph, fold_batch_norm, ["conv2d", "relu"])
    assert graph.nodes[0].name == "c" and graph.nodes[0].origin == "net.c"
    assert graph.nodes[0].inputs == ["x", "c.weight", "c.bias"]


def test_batch_norm_stays_behind_what_others_read() -> None:
    graph = start()
    graph.add("add", [norm(graph, conv(graph, "x", "c"), "bn"), "c"], "sum")
    graph.outputs = ["sum"]
    assert not fold_batch_norm(graph)
    check(graph, lower_batch_norm, ["conv2d", "depthwise_conv2d", "add"])


def test_affine_constants_fold() -> None:
    graph = start()
    graph.add_constant("shift", values(3))
    graph.add_constant("scale", values(1, 1, 1, 3))
    graph.add_constant("half", np.float32([0.5]))
    graph.add_constant("plane", values(1, 4, 3, 3))
    conv(graph, "x", "c")
    graph.add("add", ["shift", "c"], "a")
    graph.add("mul", ["a", "scale"], "b")
    graph.add("mul", ["b", "half"], "h", activation="relu")
    graph.add("add", ["h", "plane"], "out")
    graph.outputs = ["out"]
    before = results(graph)
    assert run_passes(graph, [fold_affine])
    assert [node.op for node in graph.nodes] == ["conv2d", "add"]
    assert graph.nodes[0].attrs["activation"] == "relu"
    torch.testing.assert_close(results(graph)["out"], before["out"], rtol=1e-5, atol=1e-5)


def test_identities_go() -> None:
    graph = start()
    graph.add("identity", ["x"], "i")
    graph.add("reshape", ["i"], "r", shape=(1, 6, 5, 4))
    graph.add("transpose", ["r"], "t", order=(0, 1, 2, 3))
    graph.add("slice", ["t"], "s", begin=(0, 0, 0, 0), end=(9, 9, 9, 9), strides=(1, 1, 1, 1))
    graph.add("pad", ["s"], "p", pads=(0,) * 8)
    graph.add("concat", ["p"], "c", axis=3)
    graph.add("relu", ["c"], "y")
    graph.add("identity", ["y"], "out")
    graph.outputs = ["out"]
    check(graph, remove_identities, ["relu"])
    assert graph.nodes[0].inputs == ["x"]


def test_an_identity_that_names_an_output_twice_stays() -> None:
    graph = start()
    graph.add("relu", ["x"], "y")
    graph.add("identity", ["y"], "again")
    graph.add("identity", ["x"], "input")
    graph.outputs = ["y", "again", "input"]
    assert not remove_identities(graph)


def test_silu_and_hard_swish_are_recognised() -> None:
    graph = start()
    graph.add("sigmoid", ["x"], "s")
    graph.add("mul", ["x", "s"], "a")
    graph.add("hard_sigmoid", ["a"], "h")
    graph.add("mul", ["h", "a"], "b")
    graph.outputs = ["b"]
    check(graph, fuse_silu, ["silu", "hard_swish"])


@pytest.mark.parametrize("division", ["div", "mul"])
def test_spelt_out_hard_activations_are_recognised(division: str) -> None:
    graph = start()
    for name, number in (("three", 3.0), ("six", 6.0), ("sixth", 1 / 6)):
        graph.add_constant(name, np.float32([number]))
    divisor = "six" if division == "div" else "sixth"
    graph.add("add", ["x", "three"], "line")
    graph.add("relu6", ["line"], "clip")
    graph.add(division, ["clip", divisor], "gate")
    graph.add("mul", ["clip", "x"], "product")
    graph.add(division, ["product", divisor], "swish")
    graph.add("mul", ["gate", "swish"], "y")
    graph.outputs = ["y", "gate"]
    check(graph, fuse_hard, ["hard_sigmoid", "hard_swish", "mul"])


@pytest.mark.parametrize(("offset", "divisor"), [(2.0, 6.0), (3.0, 5.0)])
def test_other_numbers_are_no_hard_activation(offset: float, divisor: float) -> None:
    graph = start()
    graph.add_constant("offset", np.float32([offset]))
    graph.add_constant("divisor", np.float32([divisor]))
    graph.add("add", ["x", "offset"], "line")
    graph.add("relu6", ["line"], "clip")
    graph.add("div", ["clip", "divisor"], "y")
    graph.outputs = ["y"]
    assert not fuse_hard(graph)


def test_a_channel_shuffle_is_two_slices() -> None:
    graph = start()
    graph.add("transpose", ["x"], "nchw", order=(0, 3, 1, 2))
    graph.add("reshape", ["nchw"], "pairs", shape=(2, 2, 30))
    graph.add("transpose", ["pairs"], "turned", order=(1, 0, 2))
    graph.add("reshape", ["turned"], "halves", shape=(1, 2, 2, 6, 5))
    for half in (0, 1):
        begin, end = (0, half, 0, 0, 0), (1, half + 1, 2, 6, 5)
        graph.add("slice", ["halves"], f"cut{half}", begin=begin, end=end, strides=(1,) * 5)
        graph.add("reshape", [f"cut{half}"], f"map{half}", shape=(1, 2, 6, 5))
        graph.add("transpose", [f"map{half}"], f"y{half}", order=(0, 2, 3, 1))
    graph.outputs = ["y0", "y1"]
    check(graph, straighten_moves, ["slice", "slice"])
    assert graph.node("y1").attrs == {"begin": (0, 0, 0, 1), "end": (1, 6, 5, 4), "strides": (1, 1, 1, 2)}


def test_moves_that_are_no_slice_stay() -> None:
    graph = start()
    graph.add("transpose", ["x"], "t", order=(0, 2, 1, 3))
    graph.add("reshape", ["t"], "y", shape=(1, 6, 5, 4))
    graph.outputs = ["y"]
    assert not straighten_moves(graph)


def test_padding_folds_where_it_may() -> None:
    graph = start()
    graph.add("pad", ["x"], "p", pads=(0, 0, 1, 2, 0, 1, 0, 0))
    conv(graph, "p", "c", pad=(1, 0, 0, 1))
    graph.add("avg_pool", ["p"], "a", kernel=(3, 3), stride=(2, 2), count_include_pad=False)
    graph.outputs = ["c", "a"]
    check(graph, fold_pads, ["conv2d", "avg_pool"])
    assert graph.node("c").attrs["pad"] == (2, 2, 0, 2)


@pytest.mark.parametrize(
    ("pad", "reader"),
    [
        ({"pads": (0, 0, 1, 1, 1, 1, 0, 0)}, ("max_pool", {"kernel": (3, 3), "stride": (1, 1)})),
        ({"pads": (0, 0, 1, 1, 1, 1, 0, 0), "value": 1.0}, ("avg_pool", {"kernel": (3, 3), "stride": (1, 1)})),
        ({"pads": (0, 0, 1, 1, 1, 1, 0, 0), "mode": "symmetric"}, ("avg_pool", {"kernel": (3, 3), "stride": (1, 1)})),
        ({"pads": (0, 0, 0, 0, 0, 0, 0, 4)}, ("avg_pool", {"kernel": (3, 3), "stride": (1, 1)})),
        ({"pads": (0, 0, 3, 3, 0, 0, 0, 0)}, ("avg_pool", {"kernel": (3, 3), "stride": (1, 1)})),
        ({"pads": (0, 0, 1, 1, 1, 1, 0, 0)}, ("avg_pool", {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True})),
    ],
)
def test_padding_stays_where_it_must(pad: dict[str, Any], reader: tuple[str, dict[str, Any]]) -> None:
    graph = start()
    graph.add("pad", ["x"], "p", **pad)
    graph.add(reader[0], ["p"], "y", **reader[1])
    graph.outputs = ["y"]
    assert not fold_pads(graph)


@pytest.mark.parametrize("keepdims", [True, False])
def test_mean_over_the_map_is_a_pool(keepdims: bool) -> None:
    graph = start()
    graph.add("reduce_mean", ["x"], "y", axes=(1, 2), keepdims=keepdims)
    graph.outputs = ["y"]
    check(graph, global_mean_to_pool, ["avg_pool"] if keepdims else ["avg_pool", "reshape"])


def test_transposes_cancel() -> None:
    graph = start()
    graph.add("transpose", ["x"], "a", order=(0, 3, 1, 2))
    graph.add("transpose", ["a"], "b", order=(0, 2, 3, 1))
    graph.add("relu", ["b"], "y")
    graph.outputs = ["y"]
    before = results(graph)
    run_passes(graph, FLOAT_PASSES)
    assert [node.op for node in graph.nodes] == ["relu"]
    torch.testing.assert_close(results(graph)["y"], before["y"])


def test_a_transpose_of_ones_is_a_reshape_and_reshapes_join() -> None:
    graph = start(1, 1, 1, 7)
    graph.add("transpose", ["x"], "a", order=(0, 3, 1, 2))
    graph.add("reshape", ["a"], "y", shape=(1, 7))
    graph.outputs = ["y"]
    before = results(graph)
    run_passes(graph, FLOAT_PASSES)
    assert [(node.op, node.inputs) for node in graph.nodes] == [("reshape", ["x"])]
    torch.testing.assert_close(results(graph)["y"], before["y"])


def test_a_transpose_sinks_through_softmax() -> None:
    graph = start()
    graph.add("transpose", ["x"], "a", order=(0, 2, 1, 3))
    graph.add("softmax", ["a"], "s", axis=-2)
    graph.add("transpose", ["s"], "y", order=(0, 2, 1, 3))
    graph.outputs = ["y"]
    before = results(graph)
    assert sink_transposes(graph)
    graph.verify()
    torch.testing.assert_close(results(graph)["y"], before["y"])
    cancel_transposes(graph)
    remove_identities(graph)
    assert [(node.op, node.name) for node in graph.nodes] == [("softmax", "y")]
    torch.testing.assert_close(results(graph)["y"], before["y"])


def test_constants_fold() -> None:
    graph = start()
    graph.add_constant("a", values(2, 6))
    graph.add_constant("b", values(2, 6))
    graph.add("add", ["a", "b", "a"], "s")
    graph.add("exp", ["s"], "e")
    graph.add("reshape", ["e"], "r", shape=(3, 4))
    graph.add("transpose", ["r"], "t", order=(1, 0))
    graph.add("slice", ["t"], "c", begin=(0, 0), end=(4, 2), strides=(1, 2))
    graph.add("reshape", ["c"], "f", shape=(4,))
    graph.add("pad", ["f"], "p", pads=(0, 0), value=2.0)
    graph.add("mul", ["x", "p"], "y")
    graph.outputs = ["y"]
    check(graph, fold_constants, ["mul"])
    assert graph.tensor("p").is_constant


def test_dead_nodes_go() -> None:
    graph = start()
    graph.add("relu", ["x"], "y")
    conv(graph, "x", "unused")
    graph.outputs = ["y"]
    check(graph, remove_dead, ["relu"])
    assert "unused.weight" not in graph.tensors


@pytest.mark.parametrize(
    ("op", "attrs", "fuses"),
    [
        ("relu", {}, True),
        ("relu6", {}, True),
        ("leaky_relu", {"alpha": 26 / 256}, True),
        ("leaky_relu", {"alpha": 0.1}, False),
        ("hard_swish", {}, False),
        ("sigmoid", {}, False),
    ],
)
def test_activations_fuse(op: str, attrs: dict[str, Any], fuses: bool) -> None:
    graph = start()
    graph.add(op, [conv(graph, "x", "c")], "act", **attrs)
    graph.add("add", ["act", "act"], "sum")
    graph.add(op, ["sum"], "out", **attrs)
    graph.outputs = ["out"]
    if not fuses:
        assert not fuse_activations(graph)
        return
    check(graph, fuse_activations, ["conv2d", "add"])
    assert [node.name for node in graph.nodes] == ["c", "out"]
    assert all(node.attrs["activation"] == op for node in graph.nodes)


def test_an_activation_stays_behind_what_others_read() -> None:
    graph = start()
    graph.add("relu", [conv(graph, "x", "c")], "y")
    graph.outputs = ["y", "c"]
    assert not fuse_activations(graph)


def test_preparing_is_repeatable() -> None:
    graph = start()
    graph.add("relu", [norm(graph, conv(graph, "x", "c"), "bn")], "y")
    graph.outputs = ["y"]
    assert prepare_for_quantization(graph)
    assert not prepare_for_quantization(graph)
    assert [node.name for node in graph.nodes] == ["y"]


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    def vandal(graph: Graph) -> bool:
        graph.tensor("y").shape = (1,)
        return True

    graph = start()
    graph.add("relu", ["x"], "y")
    graph.outputs = ["y"]
    with pytest.raises(ToolError, match="pass vandal broke the graph"):
        run_passes(graph, [vandal])


def test_passes_that_never_end_are_stopped() -> None:
    with pytest.raises(ToolError, match="do not come to an end"):
        run_passes(start(), [lambda graph: True])
