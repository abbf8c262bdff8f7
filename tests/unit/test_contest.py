"""lowwatt lpcv and power: the contest's run, its files, and what is said of their figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from conftest import Command
from fake_power import chip, ultra96
from lowwatt.errors import ToolError
from lowwatt.evaluate import score
from lowwatt.evaluate.contest import contest_ids, list_images, write_json
from lowwatt.ir import store
from lowwatt.ir.heads.labels import COCO_IDS, COCO_LABELS
from lowwatt.meters import Rail, Recording
from lowwatt.meters.pmbus import PmbusMeter
from lowwatt.types import Detections
from lowwatt.verbs.lpcv import _score as contest_score
from lowwatt.verbs.lpcv import run_contest
from small_detector import picture, small_detector


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    store.save(small_detector(), tmp_path / "cells.lwg")
    return tmp_path / "cells.lwg"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of 8 x 8 cells, whose numbers do not sort as their names do; the second is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, cells in ((9, [(1, 2)]), (100, [(0, 0), (3, 5)])):
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", picture(*cells))[1].tobytes())
    (folder / "20.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """The bright cells, and a class that the detector does not know; lamp has the id 40 here, not 1."""
    cells = {9: [(1, 2)], 20: [(0, 0)], 100: [(0, 0), (3, 5)]}
    boxes = [(image, [8 * column, 8 * row, 8, 8]) for image, found in cells.items() for row, column in found]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 48, "height": 32} for n in cells],
        "annotations": [
            {"id": k, "image_id": one, "category_id": 40, "bbox": box, "area": 64} for k, (one, box) in enumerate(boxes)
        ],
        "categories": [{"id": 40, "name": "lamp"}, {"id": 41, "name": "dog"}],
    }  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps(content))
    return tmp_path / "val.json"


def rows_of_xml(path: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    root = ElementTree.parse(path).getroot()
    rows = [
        {
            "image_id": int(one.findtext("image_id", "")),
            "category_id": int(one.findtext("category_id", "")),
            "bbox": [float(one.findtext(f"bbox/{name}", "")) for name in ("x", "y", "width", "height")],
            "score": float(one.findtext("score", "")),
        }
        for one in root.findall("image")
    ]
    return rows, {name: float(root.findtext(name, "nan")) for name in ("runtime", "energy")}


def test_the_simulated_contest_loses_nothing(lowwatt: Command, detector: Path, images: Path, tmp_path: Path) -> None:
    code, out, err = lowwatt("lpcv", images, "-m", detector, "-o", tmp_path / "out")
    assert code == 1 and "20.png" in err and "counted as no detections" in err  # the broken image is told
    report = json.loads((tmp_path / "out/report.json").read_text())
    rows = json.loads((tmp_path / "out/results.json").read_text())
    assert report["images"] == 3 and [one["id"] for one in report["failed"]] == [20]
    assert [row["image_id"] for row in rows if row["score"] > 0.3] == [9, 100, 100]
    assert {row["category_id"] for row in rows} == {1}  # lamp, as the graph says
    again, figures = rows_of_xml(tmp_path / "out/results.xml")
    assert again == rows
    assert figures == {"runtime": report["time"]["seconds"], "energy": report["energy"]["joules"]}
    assert report["score"] is None and "an AP" in err and "modelled, not measured: time and energy" in err
    assert "not scored" in out


def test_the_simulators_time_is_the_targets(detector: Path, images: Path, tmp_path: Path) -> None:
    from lowwatt.compiler import Program

    report = run_contest(str(images), detector, tmp_path / "graph", target="kv260")
    program = tmp_path / "kv260.lwp"
    compiled(detector, "kv260").save(program)
    again = run_contest(str(images), program, tmp_path / "program")
    latency = Program.load(program).latency_ms
    for one in (report, again):
        assert one["time"]["ms_per_frame"] == pytest.approx(latency) and one["time"]["how"] == "modelled"
        assert "kv260" in one["time"]["provenance"] and one["time"]["wall_seconds"] != one["time"]["seconds"]
        assert one["energy"]["joules"] == pytest.approx(3 * (0.757e-3 * latency + 2.07e-3))
        assert "rough guide" in one["energy"]["provenance"]


def compiled(detector: Path, target: str) -> Any:
    from lowwatt.compiler import compile as compile_graph

    return compile_graph(store.load(detector), target)


def test_ap_is_that_of_eval_and_ids_are_the_annotations(
    lowwatt: Command, detector: Path, images: Path, annotations: Path, tmp_path: Path
) -> None:
    lowwatt("lpcv", images, "-m", detector, "-o", tmp_path / "out", "-a", annotations)
    report = json.loads((tmp_path / "out/report.json").read_text())
    code, out, _ = lowwatt("eval", detector, "--data", tmp_path, "--annotations", "val.json", "--json")
    assert code == 0 and report["ap"] == json.loads(out)["ap"] > 0.5
    assert {row["category_id"] for row in json.loads((tmp_path / "out/results.json").read_text())} == {40}
    expected = score(ap=report["ap"], energy_j=report["energy"]["joules"], fps=report["time"]["fps"])
    assert report["score"] == expected > 0


def test_ap_equals_evals_on_photos(shared: Path, lowwatt: Command, tmp_path: Path) -> None:
    from lowwatt.verbs.detect import packaged_model

    root = shared / "data/coco_mini"
    code, _, err = lowwatt("lpcv", root / "images", "-o", tmp_path, "-a", root / "val.json", "-n", 31)
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    found = lowwatt("eval", packaged_model(), "--data", root, "--annotations", "val.json", "--limit", 31, "--json")[1]
    assert report["ap"] == json.loads(found)["ap"] > 0 and report["images"] == 31


def test_a_board_measures_its_rails(
    detector: Path, images: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the board: this machine's backend, and an Ultra96-V2's rails at 1 W (5V: 50 W)."""
    root = ultra96(tmp_path / "sys")
    monkeypatch.setattr(PmbusMeter.__init__, "__defaults__", ((), root))
    given: dict[str, Any] = {"backend": "core", "annotations": annotations}
    report = run_contest(str(images), detector, tmp_path / "out", **given)
    energy = report["energy"]
    assert energy["meter"] == "pmbus" and energy["how"] == "measured" and energy["counted"] == ["5V"]
    assert energy["joules"] == pytest.approx(50 * energy["seconds"])
    assert energy["seconds"] == pytest.approx(report["time"]["seconds"], abs=0.02)
    assert report["time"]["how"] == "measured" and report["score"] > 0
    report = run_contest(str(images), detector, tmp_path / "out", rails=["PSINT_FP"], **given)
    assert report["energy"]["counted"] == ["PSINT_FP"] and report["energy"]["watts"] == pytest.approx(4)
    assert "neither the FPGA fabric" in report["energy"]["feeds"]["PSINT_FP"]


def test_a_meter_that_breaks_costs_the_score_and_not_the_results(
    detector: Path, images: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter([1.0])

    def read(self: PmbusMeter) -> list[float]:
        for value in reads:
            return [value]
        raise OSError("bus error")

    chip(tmp_path / "sys", 0, "ina260_u14", power1_input=1)
    monkeypatch.setattr(PmbusMeter.__init__, "__defaults__", ((), tmp_path / "sys"))
    monkeypatch.setattr(PmbusMeter, "read", read)
    report = run_contest(str(images), detector, tmp_path / "out", backend="core", annotations=annotations)
    assert report["energy"] is None and report["score"] is None and report["ap"] > 0.5
    assert report["why_no_energy"] == "the meter gave no reading during the run: bus error"
    assert json.loads((tmp_path / "out/results.json").read_text())


def test_an_energy_with_a_long_gap_gives_no_score() -> None:
    report = {"ap": 0.3, "time": {"fps": 30.0}}
    run = Recording("lab", "watts", "measured", (Rail("5V"),), end=10.0, times=[0.0, 9.9, 10.0], values=[(4.0,)] * 3)
    assert contest_score(report, run)["score"] == pytest.approx(1e4 / 40 * 0.1 * 25)
    run.failures.append((5.0, "bus error"))
    assert contest_score(report, run) == {"score": None, "why_no_score": "a score needs an energy without long gaps"}


def test_without_a_meter_there_is_no_energy_and_no_score(
    lowwatt: Command, detector: Path, images: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowwatt.meters.MEASURED", ("nvml",))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    _, _, err = lowwatt("lpcv", images, "-m", detector, "-o", tmp_path / "out", "-a", annotations, "-b", "auto")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["backend"] == "core" and report["energy"] is None and report["score"] is None
    assert "no energy: nothing measures" in err and "no score: a score needs an energy" in err
    assert ElementTree.parse(tmp_path / "out/results.xml").find("energy") is None


def test_a_trace_is_replayed_over_the_targets_time(detector: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("time_s,supply\n0,6\n60,6\n")
    report = run_contest(str(images), detector, tmp_path / "out", meter=f"trace:{tmp_path / 'lab.csv'}")
    assert report["energy"]["joules"] == pytest.approx(6 * report["time"]["seconds"])
    assert report["energy"]["how"] == "replayed" and "lab.csv" in report["energy"]["provenance"]


def test_a_simulated_run_is_not_measured_by_this_computer(detector: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot measure a simulated run"):
        run_contest(str(images), detector, tmp_path / "out", meter="rapl")


def test_images_go_by_number_where_all_have_one(images: Path, tmp_path: Path) -> None:
    assert [(one.id, one.path.name) for one in list_images(images)] == [(9, "9.png"), (20, "20.png"), (100, "100.png")]
    (images / "clip.mp4").touch()
    (images / "folder.jpg").mkdir()
    assert len(list_images(images)) == 3
    (images / "020.jpg").touch()
    assert [one.id for one in list_images(images)] == [1, 2, 3, 4]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolError, match="no images here"):
        list_images(tmp_path / "empty")


def test_the_contests_label_ids() -> None:
    assert contest_ids(COCO_LABELS, range(80), 80) == COCO_IDS
    assert COCO_IDS[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13) and COCO_IDS[-3:] == (88, 89, 90)


def test_a_broken_off_write_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield 1, Detections.empty(())
        raise OSError(28, "No space left on device")

    with pytest.raises(ToolError, match="cannot write"):
        write_json(tmp_path / "results.json", failing(), (1,))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "results.json", [], (1,))
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_run(
    detector: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowwatt.verbs.lpcv._run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ToolError, match="cannot write"):
        run_contest(str(images), detector, detector / "out")


def test_an_old_report_does_not_stand_beside_new_results(
    detector: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ToolError("cannot write the file")

    run_contest(str(images), detector, tmp_path / "out")
    monkeypatch.setattr("lowwatt.verbs.lpcv.write_xml", full)
    with pytest.raises(ToolError):
        run_contest(str(images), detector, tmp_path / "out")
    assert not (tmp_path / "out/report.json").exists()


def test_power_lists_and_records(lowwatt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowwatt.meters.MEASURED", ("pmbus", "nvml"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(PmbusMeter.__init__, "__defaults__", ((), ultra96(tmp_path / "sys")))
    rows = json.loads(lowwatt("power", "--seconds", "0.05", "--json")[1])
    assert [(row["meter"], row["usable"]) for row in rows] == [("pmbus", True), ("nvml", False)]
    assert rows[0]["rails"]["5V"]["counted"] and rows[0]["watts"] == pytest.approx(50)
    code, out, err = lowwatt("power", "--seconds", "0.2", "--record", tmp_path / "t.csv")
    assert code == 0 and "PSINT_FP" in out and "(part of another)" in out and "trace:" in err
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[1].startswith("time_s,AUX,1V2") and len(lines) >= 5
    code, out, _ = lowwatt("power", "--meter", f"trace:{tmp_path / 't.csv'}", "--rail", "INT", "--seconds", "0.05")
    assert code == 0 and "4.000" in out
    code, _, err = lowwatt("power", "--rail", "INT")
    assert code == 1 and "rails belong to a meter" in err


def test_power_until_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowwatt.verbs.power import read_power

    def interrupt(self: object, timeout: float | None) -> None:
        assert timeout is None
        raise KeyboardInterrupt

    monkeypatch.setattr(PmbusMeter.__init__, "__defaults__", ((), ultra96(tmp_path / "sys")))
    monkeypatch.setattr("lowwatt.verbs.power.threading", type("_", (), {"Event": type("_", (), {"wait": interrupt})}))
    (row,) = read_power("pmbus", [], 0, tmp_path / "t.csv")
    assert row["watts"] == pytest.approx(50) and (tmp_path / "t.csv").is_file()


def test_small_pictures_do_not_hang_on_numpy_types(tmp_path: Path, detector: Path, images: Path) -> None:
    """The report is plain json: no array scalars."""
    report = run_contest(str(images), detector, tmp_path / "out", limit=1, warm_up=0)
    assert not any(isinstance(value, np.generic) for value in report.values()) and report["images"] == 1


def test_a_folder_that_is_not_there_is_no_run(tmp_path: Path) -> None:
    """A wrong name must not end as a report of one failed image."""
    with pytest.raises(ToolError, match="no images here"):
        list_images(tmp_path / "nowhere")
