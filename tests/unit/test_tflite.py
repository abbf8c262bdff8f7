"""The .tflite writer: what stands in the file, and that LiteRT makes of each operator what the references make."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from export_graphs import images, random_yolox, target_graph
from lowwatt.backends.litert import LiteRtBackend
from lowwatt.errors import ToolError
from lowwatt.ir import tflite
from lowwatt.ir.agreement import Agreement
from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import run
from lowwatt.ir.ops import operator_names
from lowwatt.ir.tflite_ops import TFLITE_RULES
from lowwatt.quant import quantize
from lowwatt.quant.scheme import scheme_names
from lowwatt.types import QuantParams
from lowwatt.verbs.export import export_graph
from lowwatt.verbs.export_tflite import agreement, validate_nodes
from tflite_cases import CASES, case_graph, values

schema = pytest.importorskip("tflite")
KERNELS = [True, False]
"""XNNPACK, and LiteRT's plain ones."""

NOT_OF_THE_DPU = ("conv hard swish", "conv hard sigmoid", "average pool same")
TWICE = ("conv leaky", "conv hard swish", "conv hard sigmoid", "bilinear half", "bilinear aligned")
"""Rounded twice on the way, so that some are two steps off."""


def parts(graph: Graph) -> tuple[object, list[object], list[str]]:
    """Model, tensors and names of the operators in a graph's file."""
    content, _ = tflite.to_bytes(graph)
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content, 0)
    body = model.Subgraphs(0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    codes = [names[model.OperatorCodes(i).BuiltinCode()] for i in range(model.OperatorCodesLength())]
    operators = [codes[body.Operators(i).OpcodeIndex()] for i in range(body.OperatorsLength())]
    return model, [body.Tensors(i) for i in range(body.TensorsLength())], operators


def data(model: object, tensor: object, dtype: type) -> np.ndarray:
    return model.Buffers(tensor.Buffer()).DataAsNumpy().view(dtype).reshape(tensor.ShapeAsNumpy())  # type: ignore


# -- the file ---------------------------------------------------------------------------------------------------


def test_every_operator_has_a_rule_and_a_case() -> None:
    assert {*TFLITE_RULES, "custom"} == set(operator_names())
    assert {node.op for name in CASES for node in case_graph(name).nodes} == set(TFLITE_RULES)


def test_a_layer_in_the_file() -> None:
    """int8 weights as they are, with a scale a channel; int32 biases at the product of the scales; int8 between."""
    graph = quantize(target_graph(), images(target_graph()), scheme="litert").quantized
    model, tensors, operators = parts(graph)
    named = {tensor.Name().decode(): tensor for tensor in tensors}
    weights, bias = named["stem.weights"], named["stem.bias"]
    assert np.array_equal(data(model, weights, np.int8), graph.tensor("stem.weights").data)
    assert np.array_equal(data(model, bias, np.int32), graph.tensor("stem.bias").data)
    scales = weights.Quantization().ScaleAsNumpy()
    assert len(scales) == 8 and not weights.Quantization().ZeroPointAsNumpy().any()
    step = named["image"].Quantization().Scale(0)
    np.testing.assert_allclose(bias.Quantization().ScaleAsNumpy(), scales * step, rtol=1e-6)
    quant = graph.tensor("sum").quant
    found = named["sum"].Quantization()
    assert (np.float32(found.Scale(0)), found.ZeroPoint(0)) == (np.float32(quant.scale), quant.zero_point)
    assert operators.count("CONV_2D") == 5 and operators.count("TRANSPOSE_CONV") == 1
    assert not {"PAD", "QUANTIZE", "DEQUANTIZE"} & set(operators)


def test_ends_have_the_names_of_the_graph() -> None:
    graph = target_graph()
    model, tensors, _ = parts(graph)
    body, signature = model.Subgraphs(0), model.SignatureDefs(0)  # type: ignore
    assert [tensors[i].Name().decode() for i in body.InputsAsNumpy()] == graph.inputs
    assert [tensors[i].Name().decode() for i in body.OutputsAsNumpy()] == graph.outputs
    assert [signature.Outputs(i).Name().decode() for i in range(signature.OutputsLength())] == graph.outputs


def test_unsigned_formats_are_moved_by_128() -> None:
    graph = Graph("net")
    graph.add_input("x", (1, 4), QuantParams(0.5, 10, signed=False, rounding="PY3_ROUND"))
    graph.outputs = [graph.add("relu", ["x"], "y", quant=QuantParams(0.25, 0, signed=False, rounding="PY3_ROUND"))]
    _, tensors, operators = parts(graph)
    assert operators == ["RELU"]
    assert [tensor.Quantization().ZeroPoint(0) for tensor in tensors] == [-118, -128]


def test_equal_graphs_give_equal_bytes() -> None:
    assert tflite.to_bytes(target_graph()) == tflite.to_bytes(target_graph())


def test_data_of_constants_are_aligned() -> None:
    content, _ = tflite.to_bytes(target_graph())
    model = schema.Model.GetRootAs(content, 0)
    starts = [model.Buffers(i)._tab for i in range(1, model.BuffersLength())]
    assert starts and all(tab.Vector(tab.Offset(4)) % 16 == 0 for tab in starts)


def test_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    graph = Graph("net")
    graph.add_input("x", (1, 4, 4, 2))
    graph.outputs = [graph.add("custom", ["x"], "y", type="Mine", shape=(1, 2))]
    with pytest.raises(ToolError, match="custom cannot be written to tflite"):
        tflite.write(graph, tmp_path / "net.tflite")
    pool = Graph("net")
    pool.add_input("x", (1, 9, 9, 2))
    attrs = {"kernel": (3, 3), "stride": (2, 2), "pad": (2, 0, 2, 0), "count_include_pad": False}
    pool.outputs = [pool.add("avg_pool", ["x"], "y", **attrs)]
    with pytest.raises(ToolError, match="avg_pool cannot be written") as caught:
        tflite.write(pool, tmp_path / "net.tflite")
    assert "count_include_pad" in caught.value.hint
    four = Graph("net")
    four.add_input("x", (1, 4), QuantParams(0.5, bits=4))
    four.outputs = [four.add("relu", ["x"], "y", quant=QuantParams(0.5, bits=4))]
    with pytest.raises(ToolError, match="8 whole bits"):
        tflite.write(four, tmp_path / "net.tflite")
    assert not list(tmp_path.iterdir())


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ToolError, match="cannot be written") as caught:
        tflite.to_bytes(target_graph())
    assert "pip install" in caught.value.hint


def test_layers_without_an_int8_form_are_named() -> None:
    """Weights with a zero point: the layer runs in float, as the note says."""
    graph = quantize(target_graph(), images(target_graph()), scheme="snpe").quantized
    notes = tflite.to_bytes(graph)[1]
    assert notes[0].startswith("layers that read or make integers, and run in float: stem")


# -- on LiteRT --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xnnpack", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_float_operators(name: str, xnnpack: bool) -> None:
    pytest.importorskip("ai_edge_litert")
    graph = case_graph(name)
    backend = LiteRtBackend(graph, xnnpack=xnnpack)
    for x in values(graph, 2):
        wanted, found = run(graph, {"x": x})["y"], backend.run({"x": x})["y"]
        assert found.shape == wanted.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("xnnpack", KERNELS)
@pytest.mark.parametrize("scheme", ["litert", "vitis"])
@pytest.mark.parametrize("name", CASES)
def test_quantized_operators(name: str, scheme: str, xnnpack: bool) -> None:
    """Each node within one step of the integer reference, from the same operands."""
    pytest.importorskip("ai_edge_litert")
    graph = case_graph(name)
    if scheme == "vitis" and name in NOT_OF_THE_DPU:
        pytest.skip("the DPU has no such operator")
    quantized = quantize(graph, values(graph), scheme=scheme).quantized
    found = validate_nodes(quantized, [{"x": x} for x in values(graph, 2, seed=7)], xnnpack=xnnpack)
    limit = 0.02 if name in TWICE else 0
    assert {node: str(one) for node, one in found.items() if one.greatest > 2 or one.share(one.beyond) > limit} == {}


@pytest.mark.parametrize("network", [target_graph, random_yolox])
@pytest.mark.parametrize("scheme", scheme_names())
def test_networks_of_every_scheme(network: object, scheme: str, tmp_path: Path) -> None:
    """Those whose activations fill 8 bits; what has no int8 form runs in float."""
    pytest.importorskip("ai_edge_litert")
    graph = network()  # type: ignore[operator]
    samples = [{"image": image} for image in images(graph)[:1]]
    quantized = quantize(graph, images(graph), scheme=scheme).quantized
    live = [t.quant for t in quantized.tensors.values() if t.quant is not None and not t.is_constant]
    if any(quant.bits != 8 or quant.narrow for quant in live):
        with pytest.raises(ToolError, match="8 whole bits"):
            tflite.to_bytes(quantized)
        return
    alone = sum(validate_nodes(quantized, samples).values(), Agreement())
    assert alone.elements > 20_000 and not alone.beyond and alone.share(alone.differ) < 0.03


def test_the_dpus_halves_go_up() -> None:
    """All of them behind a ReLU: random YOLOX agrees as a whole, which multiplies every step that is off."""
    pytest.importorskip("ai_edge_litert")
    graph = random_yolox()
    quantized = quantize(graph, images(graph), scheme="vitis").quantized
    found = agreement(LiteRtBackend(quantized), quantized, [{"image": image} for image in images(graph)])
    assert found.elements > 10_000 and not found.beyond and found.share(found.differ) < 0.01


def test_a_wrong_file_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    graph = target_graph()
    write = tflite.to_bytes

    def wrong(other: Graph) -> tuple[bytes, list[str]]:
        broken = other.copy()
        broken.tensors["deep.bias"].data = broken.tensor("deep.bias").data + 1000
        return write(broken)

    monkeypatch.setattr(tflite, "to_bytes", wrong)
    for net in (graph, quantize(graph, images(graph), scheme="litert").quantized):
        with pytest.raises(ToolError, match="differs from the reference"):
            export_graph(net, tmp_path / "net.tflite", "tflite", [{"image": images(graph)[0]}])
