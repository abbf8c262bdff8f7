"""The backend litert: graphs and files, names and formats, damaged files, and the packaged detector on it."""

from __future__ import annotations

import random
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import lowwatt
from export_graphs import images, target_graph
from lowwatt.backends import available, open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta, tflite
from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import run
from lowwatt.ir.tflite_file import FileModel, pack
from lowwatt.loading import load_graph
from lowwatt.quant import quantize
from lowwatt.recipe import DataSettings
from lowwatt.types import Array, Detections, QuantParams
from lowwatt.verbs.data import calibration_batches, open_split
from lowwatt.verbs.export import export_file, export_graph
from lowwatt.verbs.export_tflite import agreement
from small_detector import small_detector

runtime = pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")
DETECTOR = Path(lowwatt.__file__).parent / "zoo" / "yolox_fpga_person.safetensors"


# -- graphs and files -------------------------------------------------------------------------------------------


def test_a_graph_answers_as_on_other_backends() -> None:
    """Names, formats, batches; real values are quantized by the graph's own rule, ties upward."""
    graph = small_detector()
    backend = open_backend("litert", graph)
    assert (backend.inputs, backend.outputs, backend.name) == (("images",), ("cls", "box", "obj"), "litert")
    assert backend.quants["obj"] == QuantParams.power_of_two(0)
    real = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 1)).astype(np.float32)
    found, wanted = backend.run({"images": real}), run(graph, {"images": real})
    for name, value in wanted.items():
        assert found[name].dtype == np.int8 and found[name].shape == value.shape
        assert np.abs(found[name].astype(int) - value).max() <= 1
    with pytest.raises(ToolError, match="no such input"):
        backend.run({"image": real})


def test_unsigned_integers_stay_unsigned() -> None:
    graph = Graph("net")
    graph.add_input("x", (1, 4), QuantParams(0.5, 100, signed=False, rounding="PY3_ROUND"))
    graph.outputs = [graph.add("relu", ["x"], "y", quant=QuantParams(0.5, 0, signed=False, rounding="PY3_ROUND"))]
    x = np.array([[0, 100, 101, 255]], np.uint8)
    found = open_backend("litert", graph).run({"x": x})["y"]
    assert found.dtype == np.uint8 and found.tolist() == [[0, 0, 1, 155]]


@pytest.mark.parametrize("scheme", ["", "litert"])
def test_a_file_answers_as_it_is(scheme: str, tmp_path: Path) -> None:
    graph = target_graph()
    graph = quantize(graph, images(graph), scheme=scheme).quantized if scheme else graph
    tflite.write(graph, tmp_path / "net.tflite")
    backend, image = open_backend("litert", tmp_path / "net.tflite"), images(graph)[0]
    assert (backend.inputs, backend.outputs) == (("image",), ("logits", "score", "classes"))
    assert all((quant is None) == (not scheme) for quant in backend.quants.values())
    wanted = open_backend("litert", graph).run({"image": image})
    for name, value in backend.run({"image": image}).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_an_output_may_be_an_input_or_a_constant_or_given_twice() -> None:
    graph = Graph("net")
    graph.add_input("x", (1, 3))
    graph.add_constant("c", np.float32([1, 2, 3]))
    graph.add("identity", ["x"], "same")
    graph.add("add", ["x", "c"], "y")
    graph.outputs = ["y", "x", "same", "c"]
    found = open_backend("litert", graph).run({"x": np.float32([[1, 1, 1]])})
    assert {name: value.ravel().tolist() for name, value in found.items()} == {
        "y": [2, 3, 4],
        "x": [1, 1, 1],
        "same": [1, 1, 1],
        "c": [1, 2, 3],
    }


def test_the_backend_is_listed() -> None:
    (status,) = [status for status in available() if status.name == "litert"]
    assert status.usable


def test_without_the_runtime_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ToolError) as caught:
        open_backend("litert", small_detector())
    assert caught.value.hint == "pip install ai-edge-litert tflite"
    proof = export_graph(small_detector(), tmp_path / "net.tflite", "tflite")["proof"]
    assert proof[-1].endswith("pip install ai-edge-litert tflite")


# -- damaged files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64, b"\x08\x07 no model at all", None], ids=repr)
def test_what_is_no_tflite_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolError, match=r"no \.tflite file" if content is not None else "no such file"):
        open_backend("litert", path)


def test_cut_files_and_flipped_bits(tmp_path: Path) -> None:
    """A file opens, or a ToolError tells; this process goes on. Among the files are some that end another."""
    whole, generator = tflite.to_bytes(small_detector())[0], random.Random(0)
    path, refused = tmp_path / "net.tflite", 0
    for turn in range(16):
        content = bytearray(whole[: generator.randrange(8, len(whole))] if turn % 4 == 0 else whole)
        for _ in range(generator.choice((0, 1, 4)) if turn % 4 == 0 else 4):
            content[generator.randrange(8, len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            open_backend("litert", path)
        except ToolError as error:
            refused += 1
            assert error.where == str(path)
    assert refused >= 4


def test_a_file_that_ends_its_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 without a scale in the middle of a network: LiteRT's own checks abort."""

    def without_a_scale(model: FileModel) -> bytes:
        next(tensor for tensor in model.tensors if tensor.name == "branch").quant = None
        return pack(model)

    monkeypatch.setattr(tflite, "pack", without_a_scale)
    tflite.write(quantize(target_graph(), images(target_graph()), scheme="litert").quantized, tmp_path / "net.tflite")
    with pytest.raises(ToolError, match="cannot open") as caught:
        open_backend("litert", tmp_path / "net.tflite")
    assert "broke down" in caught.value.why


# -- the packaged detector --------------------------------------------------------------------------------------


@cache
def detector(scheme: str) -> Graph:
    graph = load_graph(DETECTOR)
    return quantize(graph, pictures("train", 16), scheme=scheme).quantized if scheme else graph


@cache
def pictures(split: str, count: int) -> list[Array]:
    data = open_split(DataSettings(root="sample"), split)
    return list(calibration_batches(data, meta.preprocess(load_graph(DETECTOR)), count))


def test_the_float_detector() -> None:
    graph, image = detector(""), pictures("val", 4)[0][:1]
    found, wanted = open_backend("litert", graph).run({"images": image}), run(graph, {"images": image})
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5 * np.abs(value).max())


def test_the_detector_with_steps_of_powers_of_two() -> None:
    """At most one element in a hundred is more than a step off at the end of the network."""
    graph = detector("vitis")
    found = agreement(open_backend("litert", graph), graph, [{"images": pictures("val", 4)[0][:2]}])
    assert found.elements > 16_000 and found.share(found.beyond) <= 0.01


def test_the_quantized_detector() -> None:
    """Node by node they agree; where float32 tips a value over a rounding boundary the difference spreads. At the end
    of the network it is less than what quantization itself has changed.
    """
    graph, image = detector("litert"), {"images": pictures("val", 4)[0][:2]}
    exact, wanted = run(detector(""), image), run(graph, image)
    for name, found in open_backend("litert", graph).run(image).items():
        quant = graph.tensor(name).quant
        assert quant is not None
        real = quant.dequantize(wanted[name])
        assert np.std(quant.dequantize(found) - real) < 0.75 * np.std(real - exact[name]), name


@pytest.mark.parametrize(("scheme", "least"), [("litert", 0.85), ("vitis", 0.95)])
def test_boxes_of_the_quantized_detector(scheme: str, least: float) -> None:
    """LiteRT moves fewer of the reference's boxes than quantization has moved of the float network's."""
    exact = lowwatt.Engine(detector(""), "onnxruntime", conf=0.02)
    wanted, found = (lowwatt.Engine(detector(scheme), name, conf=0.02) for name in ("reference", "litert"))
    close: list[bool] = []
    before: list[bool] = []
    for picture in [one for batch in pictures("val", 24) for one in batch]:
        image = picture[:, :, 0].astype(np.uint8)
        boxes = wanted(image).detections
        close += boxes_met(boxes, found(image).detections)
        before += boxes_met(exact(image).detections, boxes)
    assert min(len(close), len(before)) >= 30
    assert np.mean(close) > np.mean(before) and np.mean(close) >= least


def boxes_met(wanted: Detections, found: Detections) -> list[bool]:
    """Of each box, whether one is there within two pixels and .02 of its score; suppression may choose a neighbour."""
    return [
        bool(((np.abs(found.xyxy - box).max(axis=1) <= 2) & (np.abs(found.score - score) <= 0.02)).any())
        for box, score in zip(wanted.xyxy, wanted.score, strict=True)
    ]


def test_export_of_a_model_is_float_and_proved(tmp_path: Path) -> None:
    result = export_file(DETECTOR, tmp_path / "net.tflite", "tflite")
    assert result["format"] == "tflite" and "float32" in result["proof"][-1]
