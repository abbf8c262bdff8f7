"""ONNX files as graphs: operator by operator against onnxruntime, whole networks, and what is refused."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lowwatt.errors import ToolError
from lowwatt.ir import onnx_writer
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_reader import read
from lowwatt.ir.passes import prepare_for_quantization
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array

RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def whole(*numbers: int) -> Array:
    return np.asarray(numbers, np.int64)


def model(nodes: list[Any], constants: dict[str, Array], shape: tuple[Any, ...], opset: int, outputs: list[str]) -> Any:
    stored = [numpy_helper.from_array(data, name) for name, data in constants.items()]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "test", [entry], ends, stored)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(path: str | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def outputs_of(graph: Graph, x: Array) -> list[Array]:
    """Outputs of a graph for the file's own input, in the file's own layouts."""
    nchw = graph.meta["source_layout"]
    name = graph.inputs[0]
    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if name in nchw else x
    found = TorchExecutor(graph)({name: torch.from_numpy(given)})
    arrays = [found[name].detach().numpy() for name in graph.outputs]
    return [a.transpose(0, 3, 1, 2) if n in nchw else a for n, a in zip(graph.outputs, arrays, strict=True)]


def assert_reads(proto: Any, x: Array, path: Path) -> Graph:
    onnx.save(proto, str(path))
    wanted = session(path).run(None, {"x": x})
    graph = read(path)
    for prepared in (False, True):
        if prepared:
            prepare_for_quantization(graph)
        for found, want in zip(outputs_of(graph, x), wanted, strict=True):
            assert found.shape == want.shape
            np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    return graph


W, D = values(6, 4, 3, 3), values(8, 1, 3, 3)

# operator, extra operands, attributes, opset
CASES: list[tuple[str, list[Array | None], dict[str, Any], int]] = [
    ("Conv", [W, values(6)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}, 11),
    ("Conv", [W], {"dilations": [2, 1], "kernel_shape": [3, 3]}, 11),
    ("Conv", [W], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, 11),
    ("Conv", [W], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, 11),
    ("Conv", [W], {"auto_pad": "VALID"}, 11),
    ("Conv", [D], {"group": 4}, 11),
    ("Conv", [values(4, 2, 1, 1)], {"group": 2}, 11),
    ("ConvTranspose", [values(4, 3, 3, 3), values(3)], {"strides": [2, 2], "pads": [1, 0, 1, 1]}, 11),
    ("ConvTranspose", [values(4, 3, 3, 3)], {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}, 11),
    ("BatchNormalization", [values(4), values(4), values(4), values(4) ** 2 + 1], {"epsilon": 1e-3}, 14),
    ("MatMul", [values(8, 5)], {}, 13),
    ("Relu", [], {}, 13),
    ("Sigmoid", [], {}, 13),
    ("Tanh", [], {}, 13),
    ("Exp", [], {}, 13),
    ("Neg", [], {}, 13),
    ("HardSwish", [], {}, 14),
    ("LeakyRelu", [], {}, 13),
    ("LeakyRelu", [], {"alpha": 26 / 256}, 13),
    ("PRelu", [np.full((4, 1, 1), 0.2, np.float32)], {}, 13),
    ("HardSigmoid", [], {}, 13),
    ("HardSigmoid", [], {"alpha": 1 / 6}, 13),
    ("Clip", [np.float32(-0.5).reshape(()), np.float32(0.25).reshape(())], {}, 13),
    ("Clip", [None, np.float32(0.25).reshape(())], {}, 13),
    ("Clip", [], {"min": 0.0, "max": 6.0}, 6),
    ("Softmax", [], {"axis": 1}, 13),
    ("Softmax", [], {}, 13),
    ("Softmax", [], {"axis": 3}, 11),
    ("Add", [values(4, 1, 1)], {}, 13),
    ("Sub", [values(8)], {}, 13),
    ("Mul", [values(1, 4, 6, 8)], {}, 13),
    ("Div", [np.float32([2.5])], {}, 13),
    ("Pow", [np.float32([2.0])], {}, 13),
    ("Sum", [values(6, 8), values(1)], {}, 13),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 12),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 12),
    ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 12),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 11),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, 11),
    ("GlobalAveragePool", [], {}, 13),
    ("GlobalMaxPool", [], {}, 13),
    ("Resize", [None, np.float32([1, 1, 2, 2])], {"coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor"}, 13),
    ("Resize", [None, np.float32([1, 1, 2, 3])], {}, 13),
    ("Resize", [None, None, whole(1, 4, 12, 4)], {"nearest_mode": "round_prefer_ceil"}, 13),
    ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "linear"}, 13),
    ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "linear",
        "coordinate_transformation_mode": "align_corners"}, 13),
    ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "linear",
        "coordinate_transformation_mode": "asymmetric"}, 13),
    ("Upsample", [np.float32([1, 1, 2, 2])], {}, 9),
    ("Slice", [whole(1, -6), whole(3, 100), whole(1, 3), whole(1, 2)], {}, 13),
    ("Slice", [], {"starts": [1], "ends": [-1], "axes": [2]}, 9),
    ("Gather", [np.int64(2).reshape(())], {"axis": 1}, 13),
    ("Gather", [np.int64(-1).reshape(())], {"axis": 0}, 13),
    ("Gather", [whole(0, 2)], {"axis": 1}, 13),
    ("Pad", [whole(0, 0, 1, 2, 0, 0, 0, 1), np.float32(2).reshape(())], {}, 13),
    ("Pad", [], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, 10),
    ("Reshape", [whole(0, 2, -1, 8)], {}, 13),
    ("Flatten", [], {}, 13),
    ("Flatten", [], {"axis": -1}, 13),
    ("Unsqueeze", [whole(0, 3)], {}, 13),
    ("Unsqueeze", [], {"axes": [1]}, 11),
    ("Squeeze", [whole(0)], {}, 13),
    ("Squeeze", [], {}, 13),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}, 13),
    ("Transpose", [], {"perm": [0, 3, 2, 1]}, 13),
    ("Transpose", [], {}, 13),
    ("ReduceMean", [], {"axes": [2, 3], "keepdims": 0}, 13),
    ("ReduceMean", [whole(1)], {}, 18),
    ("ReduceMean", [], {"axes": [2], "keepdims": 0}, 13),
    ("ReduceMax", [], {"axes": [-1]}, 13),
    ("ReduceMax", [], {}, 13),
    ("DepthToSpace", [], {"blocksize": 2}, 13),
    ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}, 13),
    ("SpaceToDepth", [], {"blocksize": 2}, 13),
    ("Identity", [], {}, 13),
    ("Dropout", [], {}, 13),
    ("Cast", [], {"to": 1}, 13),
    ("Expand", [whole(1, 1, 6, 1)], {}, 13),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_operators(case: tuple[str, list[Array | None], dict[str, Any], int], tmp_path: Path) -> None:
    op, operands, attrs, opset = case
    constants = {f"c{i}": data for i, data in enumerate(operands) if data is not None}
    names = ["x", *("" if data is None else f"c{i}" for i, data in enumerate(operands))]
    node = helper.make_node(op, names, ["y"], name="the node", **attrs)
    graph = assert_reads(model([node], constants, (1, 4, 6, 8), opset, ["y"]), values(1, 4, 6, 8), tmp_path / "m.onnx")
    assert graph.inputs == ["x"] and graph.outputs == ["y"]


def test_gemm_after_flatten(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
    ]
    proto = model(nodes, {"w": values(5, 48), "b": values(5)}, (1, 3, 4, 4), 13, ["y"])
    graph = assert_reads(proto, values(1, 3, 4, 4), tmp_path / "m.onnx")
    assert graph.tensor("w").shape == (5, 48)


def test_split_and_concat(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Split", ["a", "sizes"], ["c", "d"], axis=2),
        helper.make_node("Concat", ["d", "c"], ["e"], axis=2),
        helper.make_node("Concat", ["b", "e"], ["y"], axis=-3),
    ]
    proto = model(nodes, {"sizes": whole(1, 5)}, (1, 4, 6, 8), 13, ["y", "d"])
    assert_reads(proto, values(1, 4, 6, 8), tmp_path / "m.onnx")


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    proto = model(nodes, {"zero": whole(0), "rest": whole(-1, 8)}, ("batch", 4, 6, 8), 13, ["y"])
    graph = assert_reads(proto, values(1, 4, 6, 8), tmp_path / "m.onnx")
    assert [node.op for node in graph.nodes] == ["transpose", "reshape"]


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_constants_follow_the_opset_of_the_file(opset: int, tmp_path: Path) -> None:
    """Before opset 13 the axes of Unsqueeze are an attribute."""
    axes = {"axes": [0, 2]} if opset < 13 else {}
    operands = ["c"] if opset < 13 else ["c", "axes"]
    nodes = [
        helper.make_node("Unsqueeze", operands, ["u"], **axes),
        helper.make_node("Mul", ["x", "u"], ["y"]),
    ]
    constants = {"c": values(4, 1)} | ({} if opset < 13 else {"axes": whole(0, 2)})
    assert_reads(model(nodes, constants, (1, 4, 6, 8), opset, ["y"]), values(1, 4, 6, 8), tmp_path / "m.onnx")


def test_an_nhwc_input_stays_as_it_is(tmp_path: Path) -> None:
    """Models that come from TensorFlow take NHWC and transpose first."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["y"]),
    ]
    proto = model(nodes, {"w": W}, (1, 6, 8, 4), 13, ["y"])
    graph = assert_reads(proto, values(1, 6, 8, 4), tmp_path / "m.onnx")
    assert [node.op for node in graph.nodes] == ["conv2d"]
    assert graph.tensor("x").shape == (1, 6, 8, 4) and graph.meta["source_layout"] == {"y": "NCHW"}


@pytest.mark.parametrize("name", ["FastestDet", "yolox_nano_416"])
def test_whole_networks(name: str, shared: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = shared / "data" / "weights" / f"{name}.onnx"
    graph = read(path)
    height, width = graph.tensor(graph.inputs[0]).shape[1:3]
    image = cv2.imread(str(next((shared / "data" / "coco_mini").rglob("*.jpg"))))
    x = cv2.resize(image, (width, height)).astype(np.float32).transpose(2, 0, 1)[None]
    x = np.ascontiguousarray(x / 255 if name == "FastestDet" else x)
    (wanted,) = session(path).run(None, {graph.inputs[0]: x})
    onnx_writer.write(graph, tmp_path / "again.onnx")
    (again,) = session(tmp_path / "again.onnx").run(None, {graph.inputs[0]: x})
    np.testing.assert_allclose(again, wanted, rtol=0, atol=1e-4)
    for prepared in (False, True):
        if prepared:
            prepare_for_quantization(graph)
        np.testing.assert_allclose(outputs_of(graph, x)[0], wanted, rtol=0, atol=1e-4)


def test_a_quantized_file_is_refused(tmp_path: Path) -> None:
    step, zero = np.float32(0.1).reshape(()), np.uint8(128).reshape(())
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], name="the node"),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]),
    ]
    onnx.save(model(nodes, {"step": step, "zero": zero}, (1, 4, 6, 8), 13, ["y"]), str(tmp_path / "m.onnx"))
    with pytest.raises(ToolError, match="quantized already") as caught:
        read(tmp_path / "m.onnx")
    assert "the node" in caught.value.where


def test_stored_integers_are_weights_and_rounding_at_run_time_is_left_out(tmp_path: Path) -> None:
    integers = RNG.integers(-128, 128, (5, 4, 1, 1)).astype(np.int8)
    steps, zeros = RNG.uniform(0.01, 0.1, 5).astype(np.float32), np.zeros(5, np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "step", "zero"], name="rounding"),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["w", "steps", "zeros"], ["v"], axis=0),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    proto = model(nodes, {"w": integers, "steps": steps, "zeros": zeros}, (1, 4, 6, 8), 13, ["y"])
    onnx.save(proto, str(tmp_path / "m.onnx"))
    graph = read(tmp_path / "m.onnx")
    assert graph.meta["notes"] == ["the file rounds at run time, left out here: rounding"]
    x = values(1, 4, 6, 8)
    wanted = np.einsum("oc,bchw->bohw", integers[:, :, 0, 0] * steps[:, None], x)
    np.testing.assert_allclose(outputs_of(graph, x)[0], wanted, rtol=1e-4, atol=1e-4)
    nodes[1] = helper.make_node("Cast", ["q"], ["r"], to=TensorProto.FLOAT)
    onnx.save(
        model(nodes, {"w": integers, "steps": steps, "zeros": zeros}, (1, 4, 6, 8), 13, ["y"]), str(tmp_path / "m.onnx")
    )
    with pytest.raises(ToolError, match="rounding at run time"):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("node", "shape", "part"),
    [
        (helper.make_node("Erf", ["x"], ["y"], name="the node"), (1, 4, 6, 8), "unsupported ONNX operator Erf"),
        (helper.make_node("Relu", ["x"], ["y"], domain="my.own"), (1, 4, 6, 8), "my.own.Relu"),
        (helper.make_node("Relu", ["x"], ["y"]), (1, 4, "rows", 8), "rows is free"),
        (helper.make_node("Relu", ["nothing"], ["y"]), (1, 4, 6, 8), "nothing"),
        (helper.make_node("Conv", ["x", "x"], ["y"]), (1, 4, 6, 8), "operand 1 must be a constant"),
        (helper.make_node("Softmax", ["x"], ["y"], axis=1), (1, 4, 6, 8), "opset 13"),
        (helper.make_node("Pad", ["x", "c"], ["y"], mode="reflect"), (1, 4, 6, 8), "constant padding"),
        (helper.make_node("Slice", ["x", "c", "c", "c", "minus"], ["y"]), (1, 4, 6, 8), "negative step"),
        (helper.make_node("Resize", ["x", "", "twice"], ["y"], nearest_mode="floor"), (1, 4, 6, 8), "nearest pixel"),
        (helper.make_node("Resize", ["x", "", "twice"], ["y"], mode="cubic"), (1, 4, 6, 8), "cubic"),
        (helper.make_node("RandomNormal", [], ["y"], shape=[1]), (1, 4, 6, 8), "RandomNormal"),
        (helper.make_node("ConstantOfShape", ["huge"], ["y"]), (1, 4, 6, 8), "too large"),
    ],
)
def test_refusals_name_the_node(node: Any, shape: tuple[Any, ...], part: str, tmp_path: Path) -> None:
    constants = {"c": whole(0), "minus": whole(-1), "huge": whole(1 << 20, 1 << 20)}
    constants["twice"] = np.float32([1, 1, 2, 2])
    onnx.save(model([node], constants, shape, 11, ["y"]), str(tmp_path / "m.onnx"))
    with pytest.raises(ToolError, match=part) as caught:
        read(tmp_path / "m.onnx")
    assert "m.onnx" in caught.value.where


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello, I am no model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("none.onnx", "text.onnx", "empty.onnx"):
        with pytest.raises(ToolError):
            read(tmp_path / name)


def test_damage_never_ends_in_another_error(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Reshape", ["a", "s"], ["r"]),
        helper.make_node("Resize", ["r", "", "scales"], ["y"]),
    ]
    scales = np.float32([1, 1, 2, 2])
    whole_file = model(nodes, {"w": values(2, 4, 3, 3), "scales": scales}, (1, 4, 6, 8), 13, ["y"]).SerializeToString()
    rng = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole_file)
        for _ in range(rng.choice([1, 1, 3])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "d.onnx").write_bytes(bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))
        with contextlib.suppress(ToolError):
            read(tmp_path / "d.onnx")
