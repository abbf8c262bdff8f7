"""export --all: a row for each runtime, and a verdict where one is off, refused or a file is not written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowwatt.backends import backend_names, open_backend
from lowwatt.errors import ToolError
from lowwatt.evaluate.apart import Apart, apart
from lowwatt.ir import store
from lowwatt.ir.agreement import Agreement
from lowwatt.ir.graph import Graph
from lowwatt.quant.scheme import load_scheme, scheme_names
from lowwatt.verbs import export_all as verb
from lowwatt.verbs.export_all import ExportAllJob, export_all
from small_detector import picture, small_detector

pytest.importorskip("lowwatt._core")


class Ruler:
    """A data set of ten images, on which a backend scores what `scores` says, else .5."""

    name = "AP"

    def __init__(self, scores: dict[str, float] | None = None) -> None:
        self.val, self._scores = Part(10), scores or {}

    @property
    def scored(self) -> int:
        return len(self.val)

    def calibration(self, images: int) -> Iterator[np.ndarray]:
        generator = np.random.default_rng(0)
        for _ in range(images):
            yield generator.integers(0, 256, (1, 32, 48, 1)).astype(np.float32)

    def measure(self, graph: Graph, backend: Any, progress: Any) -> float:
        return self._scores.get(backend if isinstance(backend, str) else backend.name, 0.5)


class Part(list[int]):
    def __init__(self, count: int) -> None:
        super().__init__(range(count))

    def first(self, count: int) -> Part:
        return Part(count)


class Quiet:
    def __init__(self, title: str) -> None:
        self.title = title


def exported(
    tmp_path: Path, patch: pytest.MonkeyPatch, ruler: Ruler, quantized: bool = False, **options: Any
) -> dict[str, Any]:
    store.save(small_detector(quantized), tmp_path / "net.lwg")
    patch.setattr("lowwatt.verbs.yardstick.yardstick_for", lambda graph, root: ruler)
    return export_all(ExportAllJob(tmp_path / "net.lwg", tmp_path / "out", images=4, **options), Quiet)


def states(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(row["scheme"], row["runtime"]): row["state"] for row in result["rows"]}


def test_every_target_and_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = exported(tmp_path, monkeypatch, Ruler(), limit=3)
    found = states(result)
    assert result["verdict"] == "" and result["scored"] == 3 and result["float"] == 0.5
    assert {scheme for scheme, _ in found} == {"float", *scheme_names()} - {"academic", "academic_affine"}
    for pair in (("float", "onnxruntime"), ("vitis", "core"), ("vitis", "mixed"), ("tensorrt", "onnxruntime")):
        assert found[pair] == "ok", pair
    assert found["vitis", "vart"] == "absent"
    assert {row["format"] for row in result["files"] if row["state"] == "absent"} <= {"tflite"}
    for row in [row for row in result["files"] if row["state"] != "absent"]:
        assert row["state"] == "ok" and Path(row["file"]).stat().st_size == row["bytes"] > 0 and not row["error"]
    exact = next(row for row in result["rows"] if (row["scheme"], row["runtime"]) == ("vitis", "mixed"))
    assert exact["beyond_one_step"] == exact["score_apart"] == exact["box_apart_px"] == 0


def test_every_compared_image_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration gives images in batches; only the first of a batch was once compared."""

    class Batched(Ruler):
        def calibration(self, images: int) -> Iterator[np.ndarray]:
            yield np.concatenate(list(super().calibration(images)))

    calls: list[int] = []
    monkeypatch.setattr(verb, "compare_outputs", lambda *given: calls.append(1) or Agreement())
    result = exported(tmp_path, monkeypatch, Batched(), quantized=True)
    ran = sum("value" in row for row in result["rows"])
    assert ran >= 3 and len(calls) == verb.COMPARED * ran


def test_a_quantized_graph_is_for_its_own_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = exported(tmp_path, monkeypatch, Ruler(), quantized=True)
    assert {scheme for scheme, _ in states(result)} == {"vitis"} and result["float"] == 0


def test_a_runtime_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = exported(tmp_path, monkeypatch, Ruler({"mixed": 0.49}), schemes=("vitis",))
    assert states(result)["vitis", "mixed"] == "off" and states(result)["vitis", "core"] == "ok"
    assert result["verdict"] == "more than .2 points off the reference: vitis on mixed"


def test_integers_that_find_nothing_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to a reference that has lost everything is not ok."""
    result = exported(tmp_path, monkeypatch, Ruler({"core": 0.1, "mixed": 0.1}), schemes=("vitis",))
    assert states(result)["vitis", "core"] == states(result)["vitis", "mixed"] == "lost"
    assert states(result)["float", "onnxruntime"] == "ok"
    assert result["verdict"].startswith("the integers lose too much (--effort good may help): vitis")
    fine = exported(tmp_path, monkeypatch, Ruler({"core": 0.1, "mixed": 0.1}), schemes=("vitis",), max_drop=0.5)
    assert states(fine)["vitis", "core"] == "ok"


def test_what_is_refused_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(name: str, source: Any, **options: Any) -> Any:
        if name == "mixed":
            raise ToolError("no such instruction", why="it is a test")
        return open_backend(name, source, **options)

    def unwritable(graph: Graph, path: Path, format: str, **options: Any) -> Any:
        raise ToolError("cannot be written", where="conv")

    monkeypatch.setattr(verb, "open_backend", refusing)
    monkeypatch.setattr(verb, "export_graph", unwritable)
    result = exported(tmp_path, monkeypatch, Ruler(), schemes=("vitis",))
    row = next(row for row in result["rows"] if row["runtime"] == "mixed")
    assert row["state"] == "refused" and row["why"] == "no such instruction" and "value" not in row
    assert result["files"][0]["error"] == "cannot be written (conv)"
    assert "refused: vitis on mixed" in result["verdict"] and "not written: onnx for float" in result["verdict"]


def test_schemes_name_backends() -> None:
    for name in scheme_names():
        assert set(load_scheme(name).runtimes) <= set(backend_names())


def test_how_far_two_answers_are_apart() -> None:
    graph = small_detector()
    image = (picture((1, 2)).astype(np.int16) // 2).astype(np.int8).reshape(1, 32, 48, 1)
    ours = open_backend("reference", graph).run({"images": image})
    theirs = {name: value.copy() for name, value in ours.items()}
    assert apart(graph, ours, theirs) == Apart()
    theirs["box"][0, 1, 2, 0] += 16  # one cell of 8 pixels
    theirs["box"][0, 0, 0, 0] += 16  # where nothing is seen
    theirs["obj"][0, 1, 2, 0] = 2
    found = apart(graph, ours, theirs)
    assert found.box == 8 and 0 < found.score < 0.2
