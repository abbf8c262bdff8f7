"""All backends answer alike: the same integers, the same names, the same errors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowwatt.backends import available, backend_names, open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import xmodel
from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams
from small_detector import picture, small_detector

core = pytest.importorskip("lowwatt._core")
CASES = Path(__file__).parent.parent / "golden" / "cases"
QUANTIZED = ["reference", "core", "simulator", "onnxruntime"]
OPTIONAL = {"litert"}
Q = QuantParams.power_of_two


def conv(graph: Graph, name: str, source: str, out: int, kernel: int, seed: int, **attrs: Any) -> str:
    """Convolution with random weights whose output fills most of the int8 range, some of it saturated."""
    rng = np.random.default_rng(seed)
    channels = graph.tensor(source).shape[3] // attrs.get("group", 1)
    weights = rng.integers(-128, 128, (out, kernel, kernel, channels)).astype(np.int8)
    operands = [source, graph.add_constant(f"{name}_w", weights, Q(8))]
    operands.append(graph.add_constant(f"{name}_b", rng.integers(-128, 128, out).astype(np.int8), Q(6)))
    fo = point_of(graph, source) + 2 - round(np.log2(kernel * channels**0.5)) + int(rng.integers(-1, 2))
    return graph.add("conv2d", operands, name, quant=Q(fo), **attrs)


def point_of(graph: Graph, name: str) -> int:
    quant = graph.tensor(name).quant
    assert quant is not None
    return quant.fix_point


def cut(graph: Graph, name: str, source: str, shape: tuple[int, ...]) -> str:
    quant = graph.tensor(source).quant
    return graph.add("slice", [source], name, quant=quant, begin=(0,) * 4, end=shape, strides=(1,) * 4)


def random_block(seed: int) -> Graph:
    """What a detector is made of: convolutions of all kinds, a residual, pooling, upsampling, joining."""
    rng = np.random.default_rng(seed)
    graph = Graph(f"block {seed}")
    x = graph.add_input("x", (1, 12, 10, 3), Q(int(rng.integers(0, 7))))
    a = conv(graph, "a", x, 16, 3, seed, stride=(2, 2), pad=(1, 1, 1, 1), activation="relu")
    b = conv(graph, "b", a, 16, 3, seed + 1, pad=(2, 2, 2, 2), dilation=(2, 2), activation="relu")
    lowest = min(point_of(graph, a), point_of(graph, b))
    c = graph.add("add", [a, b], "c", quant=Q(lowest + int(rng.integers(-1, 2))))
    moved = Q(point_of(graph, c) + int(rng.integers(-1, 2)))
    d = graph.add("max_pool", [c], "d", quant=moved, kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1))
    e = conv(graph, "e", d, 8, 1, seed + 2, group=2)
    f = graph.add("resize", [e], "f", quant=graph.tensor(e).quant, scale=(2, 2))
    g, h = cut(graph, "g", c, (1, 6, 5, 16)), cut(graph, "h", f, (1, 6, 5, 8))
    graph.add("concat", [g, h], "i", quant=Q(min(point_of(graph, g), point_of(graph, h))), axis=3)
    graph.outputs = [conv(graph, "j", "i", 7, 3, seed + 3, pad=(1, 1, 1, 1)), "c", "d"]
    return graph


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", QUANTIZED[1:])
def test_equals_the_reference(name: str, seed: int) -> None:
    graph = random_block(seed)
    x = np.random.default_rng(seed).integers(-128, 128, (1, 12, 10, 3)).astype(np.int8)
    expected = open_backend("reference", graph).run({"x": x})
    found = open_backend(name, graph).run({"x": x})
    assert list(found) == graph.outputs
    for output, value in expected.items():
        assert found[output].dtype == np.int8 and len(np.unique(value)) > 20
        np.testing.assert_array_equal(found[output], value, err_msg=output)


@pytest.mark.parametrize("name", QUANTIZED)
def test_real_values_and_batches(name: str) -> None:
    """Real inputs are quantized with ties upward; three images equal one after the other."""
    graph = small_detector()
    backend = open_backend(name, graph)
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (3, 32, 48, 1)).astype(np.float32)
    whole = backend.run({"images": real})
    raw = np.clip(np.floor(real / 2 + 0.5), -128, 127).astype(np.int8)
    for index in range(3):
        one = backend.run({"images": raw[index : index + 1]})
        for output in graph.outputs:
            np.testing.assert_array_equal(whole[output][index], one[output][0])


@pytest.mark.parametrize("name", QUANTIZED)
def test_names_and_quantization_are_told(name: str) -> None:
    backend = open_backend(name, small_detector())
    assert (backend.inputs, backend.outputs, backend.name) == (("images",), ("cls", "box", "obj"), name)
    assert backend.quants == {"images": Q(-1), "cls": Q(4), "box": Q(4), "obj": Q(0)}


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"image": np.zeros((1, 32, 48, 1), np.int8)}, "no such input"),
        ({"images": np.zeros((1, 32, 48, 3), np.int8)}, "wrong shape"),
        ({"images": np.full((1, 32, 48, 1), 200)}, "out of range"),
    ],
)
def test_wrong_inputs(name: str, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        open_backend(name, small_detector()).run(inputs)


@pytest.mark.parametrize("name", ["reference", "core", "simulator"])
def test_a_float_graph_is_refused(name: str) -> None:
    with pytest.raises(ToolError, match="runs integers") as error:
        open_backend(name, small_detector(quantized=False))
    assert "onnxruntime" in error.value.hint


def test_a_float_graph_runs_on_onnxruntime() -> None:
    backend = open_backend("onnxruntime", small_detector(quantized=False))
    image = picture((1, 2)).astype(np.float32).reshape(1, 32, 48, 1)
    outputs = backend.run({"images": np.concatenate([image, image])})
    brightness = np.full((4, 6), -60.0)
    brightness[1, 2] += 64 * 255 / 128
    assert outputs["obj"].shape == (2, 4, 6, 1) and outputs["obj"].dtype == np.float32
    np.testing.assert_allclose(outputs["obj"][1, :, :, 0], brightness, rtol=1e-6)
    assert backend.quants["obj"] is None


def test_an_onnx_file_answers_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(foreign_onnx())
    backend = open_backend("onnxruntime", path)
    assert (backend.inputs, backend.outputs) == (("data:0",), ("twice",))
    np.testing.assert_array_equal(backend.run({"data:0": np.array([1, 2], np.int32)})["twice"], [2, 4])
    for inputs, message in (({}, "missing"), ({"data": 0}, "no such input"), ({"data:0": np.zeros(2)}, "refused")):
        with pytest.raises(ToolError, match=message):
            backend.run(inputs)  # type: ignore[arg-type]


def foreign_onnx() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.INT32, [2]) for n in ("data:0", "twice"))
    graph = helper.make_graph([helper.make_node("Add", ["data:0", "data:0"], ["twice"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_what_onnxruntime_cannot_open(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\x07 no model")
    for name, message in (("damaged.onnx", "cannot open"), ("absent.onnx", "no such file")):
        with pytest.raises(ToolError, match=message):
            open_backend("onnxruntime", tmp_path / name)


def test_a_graph_without_its_weights_is_refused_when_opened() -> None:
    graph = small_detector()
    graph.tensors["obj_w"].data = np.zeros(0, np.int8)
    with pytest.raises(ToolError, match="no data"):
        open_backend("core", graph)


def test_the_simulator_knows_the_cost_of_a_program() -> None:
    class Program:
        graph = small_detector()
        layers = ("row",)

    assert open_backend("simulator", Program()).layers == ("row",)  # type: ignore[attr-defined]


def test_unknown_names_and_sources() -> None:
    with pytest.raises(ToolError, match="unknown backend onnx") as error:
        open_backend("onnx", small_detector())
    assert "onnxruntime" in error.value.hint
    for name in backend_names():
        with pytest.raises(ToolError, match="cannot run this"):
            open_backend(name, 17)


def test_availability(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [status.name for status in available()] == list(backend_names())
    assert all(status.why and (status.usable or status.name in OPTIONAL) for status in available())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = {status.name: status for status in available()}
    assert missing["reference"].usable and not missing["core"].usable
    assert "pip install" in missing["onnxruntime"].how_to_install


# -- the golden vectors ----------------------------------------------------------------------------------

OPENED = [*(("core", {"isa": kernel}) for kernel in core.kernels()), ("onnxruntime", {})]


def golden(folder: Path, name: str, options: dict[str, str]) -> int:
    """Outputs of one case on a backend, bit for bit; returns the number of elements."""
    case = json.loads((folder / "case.json").read_text())
    backend = open_backend(name, xmodel.read(folder / "model.xmodel"), **options)
    found = backend.run({i["name"]: np.load(folder / i["file"]) for i in case["inputs"]})
    for output in case["outputs"]:
        np.testing.assert_array_equal(found[output["name"]], np.load(folder / output["file"]), folder.name)
    return sum(value.size for value in found.values())


@pytest.mark.parametrize(("name", "options"), OPENED)
def test_stored_golden_cases(name: str, options: dict[str, str]) -> None:
    folders = sorted(path for path in CASES.iterdir() if path.is_dir())
    assert len(folders) >= 6
    assert sum(golden(folder, name, options) for folder in folders) > 1000


@pytest.mark.parametrize(("name", "options"), OPENED)
def test_all_golden_cases(name: str, options: dict[str, str], shared: Path) -> None:
    folders = sorted((shared / "golden").glob("case*"))
    assert len(folders) == 94
    assert sum(golden(folder, name, options) for folder in folders) == 89_600
