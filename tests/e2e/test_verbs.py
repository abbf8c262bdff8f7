"""The command line as a person uses it: every verb on the files of the one before, and every mistake answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

RECIPE = """
name: tiny
data: {sample_train: 24, sample_val: 6, sample_size: 96}
model: {width: 0.125, size: 96}
train: {epochs: 1, batch: 8, warmup_epochs: 0, plain_epochs: 0, threads: 1, eval_every: 0}
quant: {images: 16, max_drop: 1.0}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one short production run; its files serve the other tests."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "tiny.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        code = call(patch, "produce", folder / "tiny.yaml", "--out", folder / "out")
    assert code == 0
    return folder


def call(patch: pytest.MonkeyPatch, *arguments: object) -> int:
    from lowwatt.cli import main

    patch.setattr("sys.argv", ["lowwatt", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def lowwatt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], road: Path) -> Command:
    """lowwatt(*arguments) → exit code, stdout, stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(road / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = call(monkeypatch, *arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def as_json(result: tuple[int, str, str]) -> Any:
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def test_produce_leaves_the_file_of_every_stage(road: Path) -> None:
    names = {"recipe.yaml", "model.safetensors", "float.lwg", "quantized.lwg", "model_int.xmodel", "model_qdq.onnx"}
    names |= {"program.lwp", "detections.json", "report.json", "report.html"}
    assert names <= {path.name for path in (road / "out").iterdir()}
    report = json.loads((road / "out/report.json").read_text())
    assert [stage["stage"] for stage in report["stages"]] == ["FP32", "fake-quant", "integer"]
    assert len(report["layers"]) > 60
    assert report["status"] == "warning" and "detects next to nothing" in report["headline"]  # one epoch
    assert not [path for path in (road / "out").rglob(".*-*") if path.is_file()]


def test_eval_agrees_between_backends(lowwatt: Command, road: Path) -> None:
    options = ("--data", sample_root(road), "--json")
    rows = [
        as_json(lowwatt("eval", road / "out" / name, *options, "--backend", backend))
        for name, backend in (("quantized.lwg", "core"), ("program.lwp", "simulator"), ("quantized.lwg", "reference"))
    ]
    assert rows[0] == rows[1] == rows[2]
    assert as_json(lowwatt("eval", road / "out/model.safetensors", *options))["images"] == 6


def sample_root(road: Path) -> Path:
    return next((road / "cache/lowwatt").glob("sample-*"))


def test_quantize_export_compile_run_from_the_model_alone(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "q.lwg"
    report = tmp_path / "q.html"
    arguments = ("--data", sample_root(road), "-o", quantized, "--images", 16, "--report", report, "--json")
    result = as_json(lowwatt("quantize", road / "out/model.safetensors", *arguments))
    assert set(result["accuracy"]) == {"FP32", "fake-quant", "integer"}
    page = report.read_text(encoding="utf-8")
    assert page.count('<tr id="layer-') == len(result["layers"]) > 60
    assert f"measured on {result['scored']} images" in page and 'id="plan"' in page
    for format, name in (("xmodel", "q.xmodel"), ("qdq", "q.onnx")):
        assert as_json(lowwatt("export", quantized, "--format", format, "-o", tmp_path / name, "--json"))["proof"]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (1, 96, 96, 1)).astype(np.float32))
    compiled = as_json(lowwatt("compile", quantized, "--target", "kv260", "--json", "-o", tmp_path / "p.lwp"))
    assert compiled["latency_ms"] == pytest.approx(compiled["dpu_ms"] + compiled["host_ms"])
    assert len(compiled["layers"]) > 60
    outputs = {}
    for file, backend in (
        ("q.xmodel", "reference"), ("q.xmodel", "core"), ("q.lwg", "onnxruntime"), ("p.lwp", "simulator")
    ):  # fmt: skip
        out = tmp_path / f"{file}-{backend}"
        rows = as_json(lowwatt("run", tmp_path / file, "-i", tmp_path / "x.npy", "-b", backend, "-o", out, "--json"))
        outputs[file, backend] = [np.load(row["file"]) for row in rows]
    first, *others = outputs.values()
    assert len(first) == 9 and all(value.dtype == np.int8 for value in first)
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_qat_trains_on_integers_and_keeps_the_users_names(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    model, data = road / "out/model.safetensors", sample_root(road)
    arguments = ("--data", data, "--out", tmp_path / "qat", "qat.epochs=1", "qat.images=16", "--max-drop", 1, "--json")
    result = as_json(lowwatt("qat", model, *arguments))
    assert list(result["accuracy"]) == ["FP32", "fake-quant", "integer"]
    assert result["accuracy"]["fake-quant"] == pytest.approx(result["accuracy"]["integer"], abs=1e-4)
    with safe_open(model, "pt") as before, safe_open(result["model"], "pt") as after:
        assert list(before.keys()) == list(after.keys())
    assert (
        as_json(lowwatt("eval", result["quantized"], "--data", data, "--json"))["ap"] == result["accuracy"]["integer"]
    )


def test_quantize_explains_and_tries_exports_without_any_data(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    model = road / "out/model.safetensors"
    lines = as_json(lowwatt("quantize", model, "--scheme", "academic", "--bits", "W2A4", "--explain", "--json"))
    assert any("int2, per channel" in line for line in lines) and any(": float (" in line for line in lines)
    dry = as_json(lowwatt("quantize", model, "--scheme", "tensorrt", "--dry-run", "--json"))
    assert any(line.startswith("deploy") for line in dry)
    assert not list(tmp_path.iterdir())


def test_detect_draws_and_goes_on_after_a_bad_image(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    good = sorted((sample_root(road) / "images").iterdir())[0]
    code, out, err = lowwatt(
        "detect", good, tmp_path / "broken.jpg", good, "-m", road / "out/program.lwp", "-o", tmp_path / "d", "--json"
    )
    rows = json.loads(out)
    assert code == 1 and "broken.jpg" in err
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert len({row["file"] for row in rows if row["file"]}) == 2
    assert all(Path(row["file"]).is_file() for row in rows if row["file"])


def test_report_is_rebuilt_and_compared(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = lowwatt("report", road / "out", "--compare", road / "out/report.json", "--out", page)
    assert code == 0 and "FP32" in out and page.stat().st_size > 10_000
    assert as_json(lowwatt("report", road / "out", "--json"))["stages"]


def test_compile_and_check_take_a_recipe(lowwatt: Command, road: Path) -> None:
    assert as_json(lowwatt("compile", road / "tiny.yaml", "--json"))["latency_ms"] > 0
    wider = ("model.width=0.25", "-t", "kv260", "--json")
    assert as_json(lowwatt("compile", road / "tiny.yaml", *wider))["latency_ms"] > 0
    assert lowwatt("check", road / "tiny.yaml", "model.activation=silu")[0] == 1
    code, out, _ = lowwatt("check", road / "tiny.yaml")
    assert code == 0 and "run on the accelerator" in out


def test_a_network_for_another_machine_is_refused_before_training(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    code, _, err = lowwatt("produce", road / "tiny.yaml", "model.activation=silu", "--out", tmp_path / "o")
    assert code == 1 and "silu" in err and "hint" in err
    assert not (tmp_path / "o/model.safetensors").exists()


def test_score_of_the_winner(lowwatt: Command) -> None:
    code, out, _ = lowwatt("score", "--ap", 0.274, "--energy-j", 416.239, "--fps", 40.723)
    assert (code, out.strip()) == (0, "63.509")


def test_data_check_and_sheet(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    code, _, err = lowwatt("data", "check", sample_root(road), "--sheet", tmp_path / "sheet.jpg")
    assert code == 0 and "0 errors" in err
    assert (tmp_path / "sheet.jpg").stat().st_size > 5_000


def test_doctor_finds_the_core_and_the_backends(lowwatt: Command) -> None:
    rows = {row["name"]: row for row in as_json(lowwatt("doctor", "--json"))}
    assert rows["compiled core"]["usable"] and rows["backend reference"]["usable"]
    assert "target ultra96v2-lpcv" in rows


VERBS = [
    "produce",
    "train",
    "eval",
    "quantize",
    "qat",
    "export",
    "compile",
    "check",
    "run",
    "detect",
    "score",
    "report",
    "doctor",
]
MISTAKES: list[tuple[list[str], int, str]] = [
    (["train", "nowhere.yaml"], 1, "no such recipe"),
    (["train", "{road}/tiny.yaml", "train.epoch=1"], 1, "train.epochs"),
    (["train", "{road}/tiny.yaml", "epochs"], 1, "key=value"),
    (["train", "{road}/tiny.yaml", "data.root=/nowhere"], 1, "/nowhere"),
    (["eval", "nowhere.lwg"], 1, "no such file"),
    (["eval", "{road}/tiny.yaml"], 1, "unknown kind of file"),
    (["eval", "{road}/out/quantized.lwg", "--backend", "cores"], 1, 'did you mean "core"'),
    (["export", "{road}/out/float.lwg", "--format", "xmodel"], 1, "quantize"),
    (["export", "{road}/out/quantized.lwg", "--format", "xmodell"], 1, "xmodel"),
    (["compile", "{road}/out/quantized.lwg", "--target", "kv26"], 1, "kv260"),
    (["compile", "{road}/out/report.html"], 1, "unknown kind of file"),
    (["compile", "{road}/out/quantized.lwg", "model.width=1"], 1, "only a recipe"),
    (["check", "{road}/tiny.yaml", "model.witdh=1"], 1, "model.width"),
    (["run", "{road}/out/quantized.lwg", "-i", "nowhere.npy"], 1, "no such file"),
    (["quantize", "{road}/out/model.safetensors", "-s", "tensort"], 1, 'did you mean "tensorrt"'),
    (["quantize", "{road}/out/model.safetensors", "--bits", "4/4", "-s", "academic"], 1, "write W4A8"),
    (["quantize", "{road}/out/model.safetensors", "--bits", "W4A4"], 1, "8 bits only"),
    (["quantize", "{road}/out/model.safetensors", "--effort", "god"], 1, "effort"),
    (["quantize", "{road}/out/quantized.lwg"], 1, "quantized already"),
    (["qat", "{road}/out/float.lwg"], 1, "give the .safetensors"),
    (["qat", "{road}/out/model.safetensors", "train.epochs=3"], 1, "write qat.key=value"),
    (["run", "{road}/out/quantized.lwg", "-i", "{road}/tiny.yaml"], 1, "cannot read the array"),
    (["run", "{road}/out/quantized.lwg", "-i", "imagse=x.npy"], 1, "did you mean"),
    (["run", "{road}/out/float.lwg", "-i", "{road}/x.npy", "-b", "core"], 1, "quantize"),
    (["detect", "/nowhere/*.jpg"], 1, "nowhere"),
    (["score", "--ap", "0.3", "--energy-j", "100"], 1, "frames a second"),
    (["score", "--ap", "x", "--energy-j", "100"], 2, "--ap"),
    (["report", "{road}"], 1, "report"),
    (["data", "check", "/nowhere"], 1, "no such folder"),
    (["nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize(("arguments", "expected", "part"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_end_in_a_sentence(
    lowwatt: Command, road: Path, arguments: list[str], expected: int, part: str
) -> None:
    np.save(road / "x.npy", np.zeros((1, 96, 96, 1), np.float32))
    code, out, err = lowwatt(*(argument.format(road=road) for argument in arguments))
    assert code == expected, err
    assert part in err + out
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(lowwatt: Command, verb: str) -> None:
    code, out, _ = lowwatt(verb, "--help")
    assert code == 0 and "Example:" in out


def test_the_packaged_detector_draws_on_any_picture(lowwatt: Command, road: Path, tmp_path: Path) -> None:
    picture = sorted((sample_root(road) / "images").iterdir())[0]
    code, out, err = lowwatt("detect", picture, "-o", tmp_path / "d", "--conf", 0.01, "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert Path(row["file"]).is_file() and row["detections"]
