"""The form of QDQ for onnxruntime's integer kernels equals the integer reference with graph optimisation on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export_graphs import images, random_yolox, target_graph
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import validate_qdq
from lowwatt.ir.onnx_qdq_fast import MAX_CUT, write
from lowwatt.quant import quantize
from lowwatt.verbs.export import export_graph
from qdq_values import SHAPE, integers, pot


def assert_exact(graph: Graph, path: Path, samples: list[Any]) -> list[str]:
    graph.outputs = graph.outputs or [graph.nodes[-1].name]
    notes = write(graph, path)
    report = validate_qdq(path, graph, samples)
    assert report.elements > 0
    assert report.differ_disabled == 0 and report.differ_enabled == 0
    return notes


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
@pytest.mark.parametrize("cut", range(0, 17, 2))
def test_every_tie(activation: str, cut: int, tmp_path: Path) -> None:
    """Every input value times every power of two: all the ties that there are, and shifts beyond what kernels can."""
    graph = Graph("test")
    graph.add_input("x", (1, 256, 1, 1), pot(4))
    weights = np.array([1, 2, 4, 8, 16, 32, 64, -128, -1, 3, 127], np.int8).reshape(-1, 1, 1, 1)
    graph.add_constant("w", weights, pot(cut))
    graph.add("conv2d", ["x", "w"], "y", quant=pot(4), activation=activation)
    every = np.arange(-128, 128, dtype=np.int8).reshape(1, 256, 1, 1)
    assert bool(assert_exact(graph, tmp_path / "m.onnx", [every])) == (cut > MAX_CUT)


LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("conv2d", (5, 3, 3, 4), {"pad": (1, 1, 1, 0), "stride": (2, 1)}),
    ("conv2d", (4, 1, 1, 2), {"group": 2}),
    ("depthwise_conv2d", (2, 3, 2, 4), {"pad": (1, 1, 1, 1), "dilation": (2, 1)}),
    ("transposed_conv2d", (3, 3, 3, 4), {"stride": (2, 2), "pad": (1, 0, 1, 1)}),
    ("linear", (5, 4), {}),
]


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "leaky_relu", "hard_swish"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer[0])
@pytest.mark.parametrize(("weight_fix", "bias_fix", "out_fix"), [(5, 4, 4), (8, 13, 4), (10, 2, 5), (-1, 3, 2)])
def test_layers(
    layer: tuple[str, tuple[int, ...], dict[str, Any]],
    activation: str,
    weight_fix: int,
    bias_fix: int,
    out_fix: int,
    tmp_path: Path,
) -> None:
    """With and without an integer kernel; biases of half accumulator steps among them."""
    op, shape, attrs = layer
    graph = Graph("test")
    graph.add_input("x", SHAPE if op != "linear" else (7, 4), pot(3))
    graph.add_constant("w", integers(*shape, seed=7), pot(weight_fix))
    channels = shape[0] * shape[3] if op == "depthwise_conv2d" else shape[0]
    graph.add_constant("b", integers(channels, seed=8), pot(bias_fix))
    out = pot(max(out_fix, 4) if activation == "relu6" else out_fix)
    graph.add(op, ["x", "w", "b"], "y", quant=out, activation=activation, **attrs)
    samples = [integers(*graph.tensor("x").shape, seed=s) for s in range(4)]
    assert_exact(graph, tmp_path / "m.onnx", samples)


@pytest.mark.parametrize("make", [target_graph, random_yolox])
def test_networks(make: Any, tmp_path: Path) -> None:
    graph = make()
    samples = images(graph)
    quantized = quantize(graph, samples).quantized
    notes = write(quantized, tmp_path / "m.onnx")
    report = validate_qdq(tmp_path / "m.onnx", quantized, samples)
    assert report.enabled.share(report.enabled.differ) <= 0.001
    assert len(notes) <= 5


def test_convolutions_take_integer_kernels(tmp_path: Path) -> None:
    import onnxruntime

    graph = random_yolox()
    quantized = quantize(graph, images(graph)).quantized
    notes = write(quantized, tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(str(tmp_path / "o.onnx")).graph.node)
    assert kinds["QLinearConv"] == sum(node.op == "conv2d" for node in quantized.nodes) - len(notes)


def test_export_says_what_runs_in_float(tmp_path: Path) -> None:
    graph = target_graph()
    samples = images(graph)
    inputs = [{"image": image} for image in samples]
    quantized = quantize(graph, samples).quantized
    proof = export_graph(quantized, tmp_path / "m.onnx", "qdq-fast", inputs)["proof"]
    assert proof[0].startswith("deep: no integer kernel")
    assert "graph optimisation on" in proof[-1]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    graph = target_graph()
    quantized = quantize(graph, images(graph), scheme="onnxruntime").quantized
    with pytest.raises(ToolError, match="for fix points"):
        write(quantized, tmp_path / "m.onnx")
