"""The command line where things go wrong around it: odd data sets, folders, names, closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import Command
from lowwatt.errors import ToolError
from lowwatt.files import exclusive
from lowwatt.ir import store
from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams
from small_detector import picture, small_detector


def write_coco(folder: Path) -> None:
    """One image with a good box and one outside of it, one image that is not there, one class without a box."""
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images/a.png"), np.zeros((20, 30), np.uint8))
    boxes = [[1, 1, 5, 5], [25, 1, 50, 5]]
    content = {
        "images": [{"id": i, "file_name": name, "width": 30, "height": 20} for i, name in ((1, "a.png"), (2, "b.png"))],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "[bold]dog"}],
    }
    (folder / "val.json").write_text(json.dumps(content))


def test_data_check_tells_errors_from_warnings(lowwatt: Command, tmp_path: Path) -> None:
    write_coco(tmp_path)
    code, out, err = lowwatt("data", "check", tmp_path)
    assert code == 1 and "1 errors, 2 warnings" in err
    assert "[bold]dog" in out
    rows = json.loads(lowwatt("data", "check", tmp_path, "--json")[1])
    assert {(row["level"], row["kind"], row["where"]) for row in rows} == {
        ("error", "missing image", "b.png"),
        ("warning", "box outside the image", "a.png"),
        ("warning", "empty class", "[bold]dog"),
    }


def test_data_sample_leaves_a_folder_with_files_alone(lowwatt: Command, tmp_path: Path) -> None:
    """It once removed the folder first."""
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = lowwatt("data", "sample", tmp_path, "--train", 2, "--val", 2)
    assert code == 1 and "holds something" in err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """File of a quantized detector of bright cells."""
    store.save(small_detector(), tmp_path / "cells.lwg")
    return tmp_path / "cells.lwg"


def write_picture(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode(".png", picture((1, 2)))[1].tobytes())
    return path


def test_detect_never_overwrites_the_pictures_it_was_given(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    photo = write_picture(tmp_path / "in/a.jpg")
    before = photo.read_bytes()
    code, _, err = lowwatt("detect", photo, "-m", detector, "-o", tmp_path / "in")
    assert code == 1 and "overwrite" in err and photo.read_bytes() == before


def test_detect_goes_on_where_one_picture_cannot_be_written(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    """JPEG ends at 65,500 pixels a side."""
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((1, 70_000), np.uint8))
    small = write_picture(tmp_path / "small [red].png")
    code, out, err = lowwatt("detect", tmp_path / "long.png", small, "-m", detector, "-o", tmp_path / "out")
    assert code == 1 and "cannot write the image" in err
    assert "small [red].png → " in out and (tmp_path / "out/small [red].jpg").is_file()


def test_detect_strict_stops_and_keeps_what_was_found(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    good = write_picture(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    names = [good, tmp_path / "bad.jpg", good]
    code, out, err = lowwatt("detect", *names, "-m", detector, "-o", tmp_path / "out", "--json")
    assert code == 1 and [bool(row["error"]) for row in json.loads(out)] == [False, True, False]
    code, out, err = lowwatt("detect", *names, "-m", detector, "-o", tmp_path / "out", "--json", "--strict")
    assert code == 1 and len(json.loads(out)) == 1 and "bad.jpg" in err


def test_detect_runs_the_segments_of_a_program(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    photo = write_picture(tmp_path / "a.png")
    assert lowwatt("compile", detector, "-o", tmp_path / "a.lwp")[0] == 0
    for backend in ("mixed", "core"):
        out = lowwatt("detect", photo, "-m", tmp_path / "a.lwp", "-o", tmp_path / "out", "-b", backend)[1]
        assert "lamp" in out


BAD_PLACES = [("file/deep/out.lwp", "directory"), ("folder", "directory"), ("n" * 300 + ".lwp", "name too long")]


@pytest.mark.parametrize(("place", "why"), BAD_PLACES, ids=["below a file", "a folder", "long name"])
def test_a_place_that_cannot_be_written_is_named(
    lowwatt: Command, detector: Path, tmp_path: Path, place: str, why: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    code, _, err = lowwatt("compile", detector, "-o", tmp_path / place)
    assert code == 1 and "cannot write the file" in err and why in err.lower()
    assert not list(tmp_path.rglob(".*"))


HOSTILE = ["../../escape", "/etc/passwd", "a/b", "a_b", "", "..", ".", "line\nbreak", "[/red]", "ü" * 300, "nul\0"]


def test_run_writes_one_file_an_output_and_none_elsewhere(lowwatt: Command, tmp_path: Path) -> None:
    graph = Graph("hostile [/names]")
    quant = QuantParams.power_of_two(0)
    graph.add_input("x", (1, 3), quant)
    for number, name in enumerate(HOSTILE):
        factor = graph.add_constant(f"factor {number}", np.full((1, 3), number, np.int8), quant)
        graph.outputs.append(graph.add("add", ["x", factor], name, quant=quant))
    store.save(graph, tmp_path / "g.lwg")
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.int8))
    before = set(tmp_path.iterdir())
    code, out, err = lowwatt("run", tmp_path / "g.lwg", "-i", tmp_path / "x.npy", "-o", tmp_path / "o", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["output"] for row in rows] == HOSTILE
    assert [int(np.load(row["file"])[0, 0]) for row in rows] == list(range(len(HOSTILE)))
    assert set(tmp_path.iterdir()) - before == {tmp_path / "o"}
    assert {Path(row["file"]).parent for row in rows} == {tmp_path / "o"}
    assert lowwatt("run", tmp_path / "g.lwg", "-i", tmp_path / "x.npy", "-o", tmp_path / "o")[0] == 0


def test_quantize_refuses_what_is_quantized_and_a_calibration_nobody_knows(lowwatt: Command, detector: Path) -> None:
    code, _, err = lowwatt("quantize", detector, "--data", "nowhere")
    assert code == 1 and "quantized already" in err
    code, _, err = lowwatt("quantize", detector, "--calibration", "mean")
    assert code == 1 and "minmax" in err and "Traceback" not in err


def test_interrupted_is_said_and_has_its_exit_code(lowwatt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lowwatt.verbs.doctor.examine", interrupt)
    code, _, err = lowwatt("doctor")
    assert code == 130 and "interrupted" in err and "Traceback" not in err


def test_two_runs_in_one_folder_end_in_a_sentence(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run"):
        with pytest.raises(ToolError, match="another run works in this folder"), exclusive(tmp_path / "run"):
            pass
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(tmp_path / "run"):
        assert not list((tmp_path / "run").iterdir())


def test_full_disk_under_stdout_is_no_traceback(lowwatt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lowwatt.cli.check.print_json", full)
    code, _, err = lowwatt("doctor", "--json")
    assert code == 1 and "No space left" in err


def test_a_graph_of_two_inputs_is_exported_and_run(lowwatt: Command, tmp_path: Path) -> None:
    graph, quant = Graph("sum"), QuantParams.power_of_two(3)
    for name in ("a", "b=c"):
        graph.add_input(name, (2, 3, 4, 5), quant)
    graph.outputs = [graph.add("add", ["a", "b=c"], "sum", quant=QuantParams.power_of_two(2))]
    store.save(graph, tmp_path / "g.lwg")
    for format in ("xmodel", "qdq"):
        code, out, err = lowwatt("export", tmp_path / "g.lwg", "--format", format)
        assert code == 0 and "0 differ" in out, err
    np.save(tmp_path / "x=y.npy", np.full((2, 3, 4, 5), 8, np.int8))
    inputs = [f"--input={name}={tmp_path / 'x=y.npy'}" for name in ("b=c", "a")]
    code, out, err = lowwatt("run", tmp_path / "g.lwg", *inputs, "-o", tmp_path / "o")
    assert code == 0 and np.load(tmp_path / "o/sum.npy").tolist() == np.full((2, 3, 4, 5), 8).tolist(), err


def test_a_terminal_that_knows_ascii_alone(detector: Path, tmp_path: Path) -> None:
    photo = write_picture(tmp_path / "pictüre.png")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "OMP_NUM_THREADS": "1"}
    command = "import sys; from lowwatt.cli import main; sys.argv[0] = 'lowwatt'; main()"
    arguments = [sys.executable, "-c", command, "detect", str(photo), "-m", str(detector), "-o", str(tmp_path / "o")]
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"pict\\xfcre.png" in done.stdout


def test_check_rewrites_writes_and_says_what_it_did(lowwatt: Command, tmp_path: Path) -> None:
    graph = Graph("spp")
    graph.add_input("x", (1, 20, 20, 8))
    graph.add("max_pool", ["x"], "pool", kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4))
    graph.outputs = [graph.add("softmax", ["pool"], "soft", axis=3)]
    store.save(graph, tmp_path / "g.lwg")
    code, out, _ = lowwatt("check", tmp_path / "g.lwg")
    assert code == 1 and "0 of 2 operators run on the accelerator; 1 part, 0 tensors" in out
    code, out, _ = lowwatt("check", tmp_path / "g.lwg", "--rewrite", "-o", tmp_path / "r.lwg")
    assert code == 1  # softmax stays
    assert "chain-pools (exact)" in out and "1 node: pool" in out and "proof: onnxruntime" in out
    assert "before: 0 of 2 operators" in out and "after:  2 of 3 operators" in out
    assert [node.op for node in store.load(tmp_path / "r.lwg").nodes] == ["max_pool", "max_pool", "softmax"]
    report = json.loads(lowwatt("check", tmp_path / "g.lwg", "--rewrite", "--json")[1])
    assert report["rewrites"][0]["nodes"] == ["pool"] and report["after"]["on_host"] == 1
    code, _, err = lowwatt("check", tmp_path / "g.lwg", "--inexact")
    assert code == 1 and "add --rewrite" in err


def test_check_sends_small_parts_to_the_host_when_asked(lowwatt: Command, tmp_path: Path) -> None:
    graph = Graph("island")
    graph.add_input("x", (1, 4, 4, 8))
    graph.add("softmax", ["x"], "a", axis=3)
    graph.add("max_pool", ["a"], "b", kernel=(2, 2), stride=(2, 2))
    graph.outputs = [graph.add("softmax", ["b"], "c", axis=3)]
    store.save(graph, tmp_path / "g.lwg")
    assert "3 parts" in lowwatt("check", tmp_path / "g.lwg")[1]
    out = lowwatt("check", tmp_path / "g.lwg", "--least-macs", "1")[1]
    assert "1 part," in out and "fewer than the 1 asked for" in out


def test_compile_takes_a_schedule_and_writes_a_trace(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    code, out, _ = lowwatt("compile", detector, "--schedule", "best", "--layers", "--trace", tmp_path / "t.json")
    assert code == 0 and "busy: CONV" in out and "schedule best" in out
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    code, _, err = lowwatt("compile", detector, "--schedule", "bets")
    assert code == 1 and "unknown schedule bets" in err and "best" in err


def test_two_programs_are_set_side_by_side(lowwatt: Command, detector: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "vendor.lwp", tmp_path / "best.lwp"
    assert lowwatt("compile", detector, "-o", old)[0] == 0
    code, out, _ = lowwatt("compile", detector, "--schedule", "best", "-o", new, "--compare", old)
    assert code == 0 and "vendor → " in out and "ms less" in out
    code, out, _ = lowwatt("report", new, "--compare", old, "--json")
    found = json.loads(out)
    assert code == 0 and found["schedule"] == "best" and found["layers"][0]["why"]
    assert {row["name"] for row in found["comparison"]["totals"]} >= {"DPU", "array of its peak", "loaded"}
    assert "busy: CONV" in lowwatt("report", old)[1]
    code, _, err = lowwatt("report", old, "-o", tmp_path / "page.html")
    assert code == 1 and "no page of its own" in err
    code, _, err = lowwatt("compile", detector, "--compare", detector)
    assert code == 1 and "cells.lwg" in err and "Traceback" not in err


def test_layers_as_json_have_what_the_table_shows(lowwatt: Command, detector: Path) -> None:
    code, out, _ = lowwatt("compile", detector, "--layers", "--json")
    found = json.loads(out)
    assert code == 0 and {"waits", "footprint", "losses"} <= set(found["layers"][0]) and "totals" in found
    assert "totals" not in json.loads(lowwatt("compile", detector, "--json")[1])


def test_a_recipe_names_its_schedule(lowwatt: Command) -> None:
    recipe = Path(__file__).parents[2] / "recipes/demo.yaml"
    found = [json.loads(lowwatt("compile", recipe, *more, "--json")[1]) for more in ((), ("schedule=best",))]
    assert [one["schedule"] for one in found] == ["vendor", "best"]
    both = json.loads(lowwatt("compile", recipe, "schedule=best", "--schedule", "vendor", "--json")[1])
    assert both["schedule"] == "vendor"
    code, _, err = lowwatt("compile", recipe, "schedule=fast")
    assert code == 1 and "wrong value for schedule" in err
