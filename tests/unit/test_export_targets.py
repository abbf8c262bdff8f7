"""Exports of every scheme: the QDQ file, the deploy pair, the dry run, and which format belongs to which scheme."""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export_graphs import images, random_yolox, target_graph
from lowwatt.backends.ncnn import open_ncnn
from lowwatt.backends.openvino import open_openvino
from lowwatt.errors import ToolError
from lowwatt.ir import meta, ncnn, onnx_deploy, onnx_qdq, store
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import validate
from lowwatt.quant import quantize
from lowwatt.quant.scheme import load_scheme, scheme_names
from lowwatt.types import QuantParams
from lowwatt.verbs.dry_run import dry_run
from lowwatt.verbs.export import FORMATS, export_file, export_graph

NETWORKS = {"targets": target_graph, "yolox": random_yolox}


@cache
def quantized(network: str, scheme: str) -> Graph:
    graph = NETWORKS[network]()
    return quantize(graph, images(graph), scheme=scheme).quantized


def samples(graph: Graph) -> list[dict[str, Any]]:
    return [{graph.inputs[0]: image} for image in images(graph)]


@pytest.mark.parametrize("scheme", scheme_names())
def test_qdq_of_every_scheme(scheme: str, tmp_path: Path) -> None:
    """Optimisation off: equal but for what float32 tips. On, onnxruntime rounds float biases to steps of their own."""
    graph = quantized("targets", scheme)
    onnx_qdq.write(graph, tmp_path / "m.onnx")
    report = onnx_qdq.validate_qdq(tmp_path / "m.onnx", graph, samples(graph))
    if "avg_pool" in load_scheme(scheme).share:  # a mean in steps of what it reads often lies on a half
        alone = onnx_qdq.validate_nodes(graph, samples(graph))
        assert alone.beyond == 0 and alone.share(alone.differ) <= 0.01
        return
    assert report.disabled.share(report.disabled.differ) <= 0.001
    biases = load_scheme(scheme).bias
    if biases is not None and biases.bits == 32:
        assert report.enabled.share(report.enabled.beyond) <= 0.01


@pytest.mark.parametrize("scheme", scheme_names())
def test_every_node_of_yolox(scheme: str) -> None:
    """Node by node, for random weights make much of one step by the end of the network."""
    graph = quantized("yolox", scheme)
    alone = onnx_qdq.validate_nodes(graph, samples(graph)[:1])
    assert alone.elements > 200_000
    assert alone.beyond == 0 and alone.share(alone.differ) <= 0.001


def test_a_node_that_is_wrong_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quantized("targets", "onnxruntime").copy()
    write = onnx_qdq.write

    def wrong(other: Graph, path: Path) -> list[str]:
        broken = other.copy()
        broken.tensor("deep.bias").data = broken.tensor("deep.bias").data + 1000
        return write(broken, path)

    monkeypatch.setattr(onnx_qdq, "write", wrong)
    alone = onnx_qdq.validate_nodes(graph, samples(graph))
    assert alone.beyond > 0


def optimised(path: Path) -> Counter[str]:
    """Operators that onnxruntime's optimiser makes of a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("network", NETWORKS)
def test_onnxruntime_takes_integer_kernels(network: str, tmp_path: Path) -> None:
    """Each convolution of scheme onnxruntime, whatever activation follows it, becomes a QLinearConv."""
    graph = quantized(network, "onnxruntime")
    onnx_qdq.write(graph, tmp_path / "m.onnx")
    kinds = optimised(tmp_path / "m.onnx")
    convolutions = [node for node in graph.nodes if node.op in ("conv2d", "depthwise_conv2d")]
    assert kinds["QLinearConv"] == len(convolutions)
    assert not kinds["Conv"] + kinds["FusedConv"]


def test_onnxruntime_optimised_equals_the_reference(tmp_path: Path) -> None:
    """But for what lies beside a boundary: its kernels multiply by one float32 number where the reference divides."""
    graph = quantized("targets", "onnxruntime")
    onnx_qdq.write(graph, tmp_path / "m.onnx")
    report = onnx_qdq.validate_qdq(tmp_path / "m.onnx", graph, samples(graph))
    assert report.enabled.share(report.enabled.differ) <= 0.01


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scheme", ["tensorrt", "snpe", "qnn"])
def test_deploy_pair(network: str, scheme: str, tmp_path: Path) -> None:
    """Three files; the ranges name tensors of the float network and give what the QDQ file gives."""
    graph = quantized(network, scheme)
    result = export_graph(graph, tmp_path / "net_qmodel.onnx", "deploy", samples(graph))
    assert "0 differ" in result["proof"][-1]
    assert {p.name for p in tmp_path.iterdir()} == {
        "net_qmodel.onnx",
        "net_qmodel_deploy_model.onnx",
        "net_qmodel_clip_ranges.json",
    }
    model = onnx.load(str(tmp_path / "net_qmodel_deploy_model.onnx")).graph
    assert not any("Linear" in node.op_type for node in model.node)
    values = {name for node in model.node for name in (*node.input, *node.output)}
    ranges = json.loads((tmp_path / "net_qmodel_clip_ranges.json").read_text())
    blobs = ranges["tensorrt"]["blob_range"] if scheme == "tensorrt" else ranges["activation_encodings"]
    assert blobs and set(blobs) <= values
    assert set(ranges.get("param_encodings", {})) <= values


def test_numbers_of_the_ranges(tmp_path: Path) -> None:
    """127 steps for TensorRT; for Qualcomm the ends, and the offset of zero."""
    graph = Graph("net")
    graph.add_input("x", (1, 4), QuantParams(0.5, rounding="PY3_ROUND"))
    graph.outputs = [graph.add("relu", ["x"], "y", quant=QuantParams(0.25, rounding="PY3_ROUND"))]
    ranges = onnx_deploy.write(graph, tmp_path / "m.onnx")
    assert ranges == {"tensorrt": {"blob_range": {"x": 63.5, "y": 31.75}}}
    graph.tensor("x").quant = QuantParams(0.5, 10, signed=False, rounding="PY3_ROUND")
    (entry,) = onnx_deploy.write(graph, tmp_path / "m.onnx")["activation_encodings"]["x"]
    assert (entry["min"], entry["max"], entry["offset"], entry["bitwidth"]) == (-5.0, 122.5, -10, 8)


def test_ranges_of_another_network_show(tmp_path: Path) -> None:
    """The proof of the pair can fail: a range that is halved, and one of no tensor."""
    graph = quantized("targets", "tensorrt")
    ranges = onnx_deploy.write(graph, tmp_path / "float.onnx")
    onnx_qdq.write(graph, tmp_path / "qdq.onnx")
    blobs = ranges["tensorrt"]["blob_range"]
    blobs["stem.act" if "stem.act" in blobs else "stem"] /= 2
    (tmp_path / "ranged.onnx").write_bytes(onnx_deploy.with_ranges(tmp_path / "float.onnx", ranges))
    runners = [onnx_qdq.open_onnxruntime(tmp_path / f"{name}.onnx", optimise=False) for name in ("qdq", "ranged")]
    assert onnx_qdq.compare_files(graph, samples(graph), *runners).beyond > 0
    blobs["nowhere"] = 1.0
    with pytest.raises(ToolError, match="lacks"):
        onnx_deploy.with_ranges(tmp_path / "float.onnx", ranges)


def test_ranges_of_other_than_8_bits_are_refused(tmp_path: Path) -> None:
    graph = target_graph()
    four = quantize(graph, images(graph), scheme=load_scheme("tensorrt").with_bits(4, 4)).quantized
    with pytest.raises(ToolError, match="8 bits"):
        export_graph(four, tmp_path / "m.onnx", "deploy", samples(graph))


# -- other runtimes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_ncnn(network: str, tmp_path: Path) -> None:
    """ncnn's own kernels give the reference's values: weights, scales, splits and fused activations are in place."""
    pytest.importorskip("ncnn")
    graph = quantized(network, "ncnn")
    result = export_graph(graph, tmp_path / "net.param", "ncnn", samples(graph))
    found = validate(graph, samples(graph), [open_ncnn(tmp_path / "net.param")])[0]
    assert str(found) in result["proof"][-1]
    assert found.elements > 3000 and found.share(found.beyond) <= 0.01


def test_files_of_ncnn(tmp_path: Path) -> None:
    """Also where ncnn is not installed: counts in the header, tagged int8 weights, two lines a layer in the table."""
    graph = quantized("targets", "ncnn")
    export_graph(graph, tmp_path / "net.param", "ncnn", samples(graph)[:0])
    magic, counts, *lines = (tmp_path / "net.param").read_text().splitlines()
    layers, blobs = map(int, counts.split())
    assert magic == "7767517" and layers == len(lines)
    assert blobs == sum(int(line.split()[3]) for line in lines)
    read = [name for line in lines for name in line.split()[4 : 4 + int(line.split()[2])]]
    assert len(read) == len(set(read)), "each blob has one reader"
    table = [line.split() for line in (tmp_path / "net.table").read_text().splitlines()]
    assert [row[0] for row in table[:2]] == ["stem_param_0", "stem"] and len(table[0]) == 1 + 8
    binary = (tmp_path / "net.bin").read_bytes()
    assert binary[:4] == (0x000D4B38).to_bytes(4, "little")
    assert binary[4 : 4 + 216] == graph.tensor("stem.weights").data.transpose(0, 3, 1, 2).tobytes()


def test_ncnn_layers_round_for_themselves() -> None:
    """What an addition reads too stays in float there; the layers have a rounded copy."""
    graph = quantized("targets", "ncnn")
    assert graph.node("branch").inputs[0] == "stem.rounded"
    assert graph.node("sum").inputs == ["branch", "stem"] and graph.tensor("stem").quant is None


def test_ncnn_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="rounds only what an int8 layer reads"):
        ncnn.write(quantized("targets", "tensorrt"), tmp_path / "net.param")
    graph = Graph("net")
    graph.add_input("x", (1, 4, 4, 2))
    graph.outputs = [graph.add("softmax", ["x"], "y", axis=3)]
    with pytest.raises(ToolError, match="softmax cannot be written to ncnn"):
        ncnn.write(graph, tmp_path / "net.param")
    assert not list(tmp_path.iterdir())


def test_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph = quantized("targets", "openvino")
    result = export_graph(graph, tmp_path / "net.onnx", "qdq", samples(graph))
    assert result["proof"][-1].startswith("openvino")
    found = validate(graph, samples(graph), [open_openvino(tmp_path / "net.onnx")])[0]
    assert found.share(found.beyond) <= 0.01


@pytest.mark.parametrize(("scheme", "format"), [("openvino", "qdq"), ("ncnn", "ncnn")])
def test_a_missing_runtime_says_how_to_get_it(
    scheme: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, scheme, None)
    graph = quantized("targets", scheme)
    result = export_graph(graph, tmp_path / "net.param", format, samples(graph))
    assert result["proof"][-1].endswith(f"pip install {scheme}")


# -- formats and schemes ----------------------------------------------------------------------------------------


def test_formats_of_schemes_exist() -> None:
    assert {name for scheme in scheme_names() for name in load_scheme(scheme).exports} <= set(FORMATS)


@pytest.mark.parametrize(
    ("scheme", "format", "part"),
    [("tensorrt", "xmodel", "xmodel needs scheme vitis"), ("vitis", "deploy", "deploy needs scheme qnn or snpe")],
)
def test_a_format_of_another_scheme(scheme: str, format: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=part) as caught:
        export_graph(quantized("targets", scheme), tmp_path / "m", format)
    assert ", ".join(load_scheme(scheme).exports) in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_the_scheme_travels_and_chooses_the_format(tmp_path: Path) -> None:
    store.save(quantized("targets", "snpe"), tmp_path / "net.lwg")
    result = export_file(tmp_path / "net.lwg", None)
    assert result["format"] == "deploy" and result["file"] == str(tmp_path / "net_qmodel.onnx")


def test_scheme_in_meta() -> None:
    tag = meta.scheme(quantized("targets", "openvino"))
    assert tag is not None and (tag.name, tag.exports) == ("openvino", ("qdq",))
    assert meta.scheme(target_graph()) is None


# -- dry run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["vitis", "tensorrt", "snpe", "onnxruntime", "openvino", "academic"])
def test_dry_run(scheme: str) -> None:
    exports = [name for name in load_scheme(scheme).exports if name != "xmodel-compiled"]
    lines = dry_run(random_yolox(), scheme)
    assert [line.split(":")[0] for line in lines[1:]] == exports


def test_dry_run_refuses_with_the_reason() -> None:
    """SiLU stays in float on the DPU, which an xmodel cannot hold; the QDQ file can."""
    with pytest.raises(ToolError, match="cannot hold silu in float"):
        dry_run(target_graph(), "vitis")
    assert len(dry_run(target_graph(), "vitis", ["qdq"])) == 2


def test_dry_run_leaves_the_graph_alone() -> None:
    graph = target_graph()
    before = [(node.op, node.name) for node in graph.nodes], np.array(graph.tensor("stem.weights").data)
    dry_run(graph, "tensorrt", ["deploy"])
    assert [(node.op, node.name) for node in graph.nodes] == before[0] and not graph.has_integers
    assert np.array_equal(graph.tensor("stem.weights").data, before[1])
