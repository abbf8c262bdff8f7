"""Float graphs as ONNX: onnxruntime computes what the graph does; names, layouts, metadata, bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_reader import read
from lowwatt.ir.onnx_writer import write
from lowwatt.ir.ops import operator_names
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array, DetectionHead, Preprocess, QuantParams

RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


# operator, shapes of the constants, attributes
CASES: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("conv2d", [(6, 3, 3, 4), (6,)], {"stride": (2, 1), "pad": (1, 0, 2, 1), "dilation": (1, 2)}),
    ("conv2d", [(6, 3, 3, 2)], {"group": 2, "activation": "relu"}),
    ("conv2d", [(6, 1, 1, 4)], {"activation": "leaky_relu", "alpha": 0.2}),
    ("depthwise_conv2d", [(2, 3, 3, 4), (8,)], {"activation": "relu6"}),
    ("transposed_conv2d", [(3, 3, 3, 4), (3,)], {"stride": (2, 2), "pad": (1, 0, 1, 1), "activation": "hard_swish"}),
    ("linear", [(5, 4), (5,)], {"activation": "hard_sigmoid"}),
    ("linear", [(5, 4)], {}),
    ("batch_norm", [(4,), (4,), (4,), (4,)], {"eps": 10.0}),
    ("max_pool", [], {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 0, 1, 0)}),
    ("max_pool", [], {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True}),
    ("avg_pool", [], {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1)}),
    ("avg_pool", [], {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1, 1, 1), "count_include_pad": False}),
    ("add", [(1, 6, 8, 4), (4,)], {"activation": "relu"}),
    ("mul", [(8, 1)], {}),
    ("mul", [(1,)], {}),
    ("sub", [(1, 1, 1, 4)], {}),
    ("div", [(6, 1, 1)], {}),
    ("clip", [], {"min": -0.5, "max": 0.25}),
    ("leaky_relu", [], {"alpha": 0.3}),
    ("softmax", [], {"axis": 3}),
    ("softmax", [], {"axis": -2}),
    ("concat", [(1, 6, 8, 2)], {"axis": 3}),
    ("concat", [(1, 1, 8, 4)], {"axis": 1}),
    ("slice", [], {"begin": (0, 1, 0, 1), "end": (1, 6, 8, 3), "strides": (1, 2, 3, 1)}),
    ("pad", [], {"pads": (0, 0, 1, 2, 0, 3, 1, 0), "value": -1.5}),
    ("resize", [], {"scale": (2.0, 3.0)}),
    ("resize", [], {"scale": (2.0, 2.0), "mode": "bilinear", "half_pixel": True}),
    ("resize", [], {"scale": (2.0, 2.0), "mode": "bilinear", "align_corners": True}),
    ("resize", [], {"scale": (1.5, 0.5), "half_pixel": True}),
    ("reshape", [], {"shape": (1, 8, 24)}),
    ("reshape", [], {"shape": (1, 4, 6, 8)}),
    ("transpose", [], {"order": (0, 3, 1, 2)}),
    ("transpose", [], {"order": (0, 2, 1, 3)}),
    ("reduce_mean", [], {"axes": (1, 2), "keepdims": True}),
    ("reduce_mean", [], {"axes": (3,), "keepdims": False}),
    ("reduce_max", [], {"axes": (1,), "keepdims": False}),
    *((name, [], {}) for name in ("relu", "relu6", "sigmoid", "tanh", "silu", "exp", "neg")),
    *((name, [], {}) for name in ("hard_sigmoid", "hard_swish", "identity", "fix")),
]


def graph_of(case: tuple[str, list[tuple[int, ...]], dict[str, Any]]) -> Graph:
    op, shapes, attrs = case
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    names = [graph.add_constant(f"c{i}", values(*shape)) for i, shape in enumerate(shapes)]
    if op == "batch_norm":
        graph.tensors["c3"].data = np.abs(values(4))
    graph.add(op, ["x", *names], "y", **attrs)
    graph.outputs = ["y"]
    return graph


def assert_equal(graph: Graph, path: Path) -> None:
    """onnxruntime on the file gives what the graph gives; everything of rank 4 is NCHW in the file."""
    x = values(*graph.tensor(graph.inputs[0]).shape)
    wanted = TorchExecutor(graph)({graph.inputs[0]: torch.from_numpy(x)})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    assert [v.name for v in session.get_inputs()] == graph.inputs
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
    for name, found in zip(graph.outputs, session.run(graph.outputs, {graph.inputs[0]: given}), strict=True):
        assert tuple(found.shape) == tuple(next(o.shape for o in session.get_outputs() if o.name == name))
        own = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
        np.testing.assert_allclose(own, wanted[name].numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_operators(case: tuple[str, list[tuple[int, ...]], dict[str, Any]], tmp_path: Path) -> None:
    graph = graph_of(case)
    write(graph, tmp_path / "m.onnx")
    assert_equal(graph, tmp_path / "m.onnx")


def test_every_operator_is_written_or_refused() -> None:
    """What has no case above is refused by name, or listed here with a reason."""
    elsewhere = {"sqrt", "pow"}  # need positive operands: test_positive_operands
    foreign = {"custom"}  # somebody else's
    assert {case[0] for case in CASES} | elsewhere | foreign == set(operator_names())


def test_positive_operands(tmp_path: Path) -> None:
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    graph.add_constant("c", np.float32([2.5]))
    graph.add("exp", ["x"], "e")
    graph.add("sqrt", ["e"], "s")
    graph.add("pow", ["s", "c"], "y")
    graph.outputs = ["y"]
    write(graph, tmp_path / "m.onnx")
    assert_equal(graph, tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", range(14, 21))
def test_opsets(opset: int, tmp_path: Path) -> None:
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    graph.add("reduce_mean", ["x"], "m", axes=(3,), keepdims=True)
    graph.add("hard_swish", ["m"], "h")
    graph.add("resize", ["h"], "r", scale=(2.0, 2.0))
    graph.add("pad", ["r"], "p", pads=(0, 0, 1, 1, 1, 1, 0, 0))
    graph.add("reduce_max", ["p"], "y", axes=(1, 2), keepdims=False)
    graph.outputs = ["y", "r"]
    write(graph, tmp_path / "m.onnx", opset)
    assert onnx.load(str(tmp_path / "m.onnx")).opset_import[0].version == opset
    assert_equal(graph, tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [11, 21])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=f"opset {opset}"):
        write(graph_of(CASES[0]), tmp_path / "m.onnx", opset)
    assert not list(tmp_path.iterdir())


def test_mixed_layouts_and_lower_ranks(tmp_path: Path) -> None:
    """Values in both orders meet; a lower rank broadcasts from the back; an output is read inside as well."""
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    graph.add("relu", ["x"], "a")
    graph.add("transpose", ["a"], "t", order=(0, 3, 1, 2))
    graph.add("reshape", ["t"], "back", shape=(1, 6, 8, 4))
    graph.add("add", ["back", "a"], "sum")
    graph.add("reduce_mean", ["sum"], "row", axes=(0, 1, 2), keepdims=False)
    graph.add("mul", ["sum", "row"], "y")
    graph.add("softmax", ["back"], "soft", axis=3)
    graph.add("identity", ["x"], "copy")
    graph.outputs = ["y", "back", "t", "row", "soft", "a", "copy"]
    write(graph, tmp_path / "m.onnx")
    assert_equal(graph, tmp_path / "m.onnx")


def test_awkward_names(tmp_path: Path) -> None:
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    graph.add_constant("x.nhwc", values(4, 1, 1, 4))
    graph.add("reshape", ["x"], "x.nchw", shape=(1, 48, 4, 1))
    graph.add("conv2d", ["x", "x.nhwc"], "y.conv")
    graph.add("relu", ["y.conv"], "y")
    graph.outputs = ["y", "x.nchw", "y.conv"]
    write(graph, tmp_path / "m.onnx")
    assert_equal(graph, tmp_path / "m.onnx")


def test_meta_travels_and_bytes_are_the_same(tmp_path: Path) -> None:
    graph = graph_of(CASES[0])
    meta.set_preprocess(graph, Preprocess((6, 8), 3))
    meta.set_head(graph, DetectionHead((8,), (("a", "b", "c"),), 2), ["cat", "dog"], [3, 7])
    for name in ("a", "b"):
        write(graph, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    again = read(tmp_path / "a.onnx")
    assert meta.labels(again) == ("cat", "dog") and meta.category_ids(again) == (3, 7)
    assert meta.head(again) == meta.head(graph) and meta.preprocess(again) == meta.preprocess(graph)


def test_refusals(tmp_path: Path) -> None:
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4), QuantParams.power_of_two(0))
    with pytest.raises(ToolError, match="quantized"):
        write(graph, tmp_path / "m.onnx")
    graph = Graph("test")
    graph.add_input("x", (1, 6, 8, 4))
    graph.add("custom", ["x"], "y", type="Mine", shape=(1, 2))
    graph.outputs = ["y"]
    with pytest.raises(ToolError, match="custom cannot be written"):
        write(graph, tmp_path / "m.onnx")
    graph = graph_of(("pad", [], {"pads": (0, 0, 1, 1, 1, 1, 0, 0), "mode": "symmetric"}))
    with pytest.raises(ToolError, match="symmetric"):
        write(graph, tmp_path / "m.onnx")
