"""The text form of a graph: what it says, and that it comes back whole."""

from __future__ import annotations

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.text import from_text, to_text
from lowwatt.types import QuantParams


def _graph() -> Graph:
    graph = Graph("a net", meta={"labels": ["cat", "dog"], "head": None})
    graph.add_input("image:0", (1, 4, 4, 1), QuantParams.power_of_two(0))
    graph.add_constant("w", np.zeros((2, 3, 3, 1), np.int8), QuantParams.power_of_two(6, 4))
    graph.tensors["conv = 1"] = Tensor("conv = 1", (1, 4, 4, 2), "uint8", QuantParams(0.3, 7, signed=False))
    params = {"raw": b"\x00\xff", "n": (1, (2.5, True))}
    attrs = {"type": 'a "b", (c)', "shape": (1, 4, 4, 2), "params": params}
    graph.nodes.append(Node("conv = 1", "custom", ["image:0", "w"], attrs, "net.0 # \u2028 x"))
    graph.tensors["s"] = Tensor("s", (), "float32")
    graph.nodes.append(Node("s", "reduce_max", ["conv = 1"], {"axes": (), "keepdims": False}, "s"))
    graph.outputs = ["s", "conv = 1"]
    return graph


def test_text_round_trip() -> None:
    graph = _graph()
    text = to_text(graph)
    again = from_text(text)
    assert to_text(again) == text
    assert again.nodes == graph.nodes
    assert (again.name, again.inputs, again.outputs, again.meta) == (
        graph.name, graph.inputs, graph.outputs, graph.meta,
    )  # fmt: skip
    for name, tensor in graph.tensors.items():
        other = again.tensors[name]
        assert (other.shape, other.dtype, other.quant) == (tensor.shape, tensor.dtype, tensor.quant)
        assert other.data is None


def test_text_reads_well() -> None:
    lines = to_text(_graph()).splitlines()
    assert lines[1] == 'input "image:0": 1x4x4x1 int8 fix 0'
    assert lines[2] == "const w: 2x3x3x1 int8 fix 6 bits 4"
    assert lines[3].endswith("): 1x4x4x2 uint8 scale 0.3 zero 7  # net.0 # \\u2028 x")
    assert 'custom("image:0", w, type="a \\"b\\", (c)", shape=[1, 4, 4, 2], ' in lines[3]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no graph"),
        ("ONNX", "no graph"),
        ("lowwatt-graph 2 x", "newer version"),
        ("lowwatt-graph x y", "no graph"),
        ("lowwatt-graph 1 x\nnode", "line 2"),
        ("lowwatt-graph 1 x\n\ninput a: float32", "line 3"),
        ("lowwatt-graph 1 x\ninput a: 1x2 floaty", "floaty"),
        ("lowwatt-graph 1 x\ninput a: 1x2 int8 fix", "line 2"),
        ("lowwatt-graph 1 x\ninput a: 1x2 int8 fix 99999", "fix point"),
        ("lowwatt-graph 1 x\ninput a: 1x2 int8 fix 1 bits 99", "99 bits"),
        ("lowwatt-graph 1 x\ninput a: 1x2 int8\ninput a: 1x2 int8", "two tensors"),
        ("lowwatt-graph 1 x\na = relu(b", "line 2"),
        ("lowwatt-graph 1 x\na = relu(b, c={): 1 int8", "line 2"),
        ("lowwatt-graph 1 x\nmeta a = " + "[" * 100_000, "line 2"),
    ],
)
def test_wrong_text_is_named(text: str, part: str) -> None:
    with pytest.raises(ToolError, match=part):
        from_text(text)


def test_values_without_a_text_are_refused() -> None:
    graph = Graph("x", meta={"labels": object()})
    with pytest.raises(ToolError, match="object"):
        to_text(graph)


def test_attributes_at_their_default_are_left_out() -> None:
    graph = Graph("x")
    graph.add_input("a", (1, 4, 4, 1))
    graph.add_constant("w", np.zeros((2, 3, 3, 1), np.float32))
    graph.add("conv2d", ["a", "w"], "c", pad=(1, 1, 1, 1), activation="relu")
    text = to_text(graph)
    assert 'c = conv2d(a, w, pad=[1, 1, 1, 1], activation="relu"): 1x4x4x2 float32' in text
    assert from_text(text).nodes == graph.nodes
