"""The report's rows, JSON, comparison and terminal table."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import random

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.evaluate.report import (
    Figure,
    LayerRow,
    Picture,
    Report,
    StageAccuracy,
    compare,
    quantity,
    summary_table,
)
from report_data import realistic_report


def test_json_round_trip_keeps_everything_and_is_deterministic(tmp_path):
    report = realistic_report()
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert (tmp_path / "report.json").read_text() == realistic_report().to_json()


def test_report_without_anything_round_trips():
    assert Report.from_json(Report(title="empty").to_json()) == Report(title="empty")


def test_values_that_are_not_finite_become_none_and_json_stays_strict():
    stage = StageAccuracy("integer", math.nan, math.inf, 0, "no boxes in val")
    layer = LayerRow("copy", "concat", "dpu", 0, {}, 0, 0, 0.0, 0.0, "load", np.float32(np.inf))
    report = Report(title="r", stages=[stage], layers=[layer])
    assert (stage.ap, stage.ap50, layer.snr_db) == (None, None, None)
    json.loads(report.to_json(), parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_numbers_of_numpy_are_taken():
    layer = LayerRow("c", "conv2d", "dpu", np.int64(5), {"conv": np.float32(2)}, 1, 1, np.float64(0.5), 0.5, "conv")
    assert json.loads(Report(title="r", layers=[layer]).to_json())["layers"][0]["macs"] == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda raw: raw | {"format": 99}, "newer"),
        (lambda raw: raw | {"surprise": 1}, "surprise"),
        (lambda raw: raw | {"title": 3}, "title"),
        (lambda raw: raw | {"stages": [{"stage": "FP32"}]}, "stages.0"),
        (lambda raw: raw | {"stages": [[]]}, "stages.0"),
        (lambda raw: raw | {"figures": [{"name": "a", "value": 1, "unit": "", "provenance": "guessed"}]}, "provenance"),
        (lambda raw: raw | {"images": [{"caption": "x", "data": "R0lGODlh"}]}, "PNG or JPEG"),
        (lambda raw: [raw], "object"),
    ],
)
def test_wrong_json_says_where(change, why):
    raw = json.loads(Report(title="r").to_json())
    with pytest.raises(ToolError, match="cannot read the report") as caught:
        Report.from_json(json.dumps(change(raw)), "old/report.json")
    assert why in caught.value.why
    assert caught.value.where == "old/report.json"


def test_damaged_files_end_in_a_clear_error():
    content = realistic_report(layers=3).to_json().encode()
    dice = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content[: dice.randrange(1, len(content) + 1)])
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        try:
            Report.from_json(bytes(damaged))
        except ToolError:
            continue


def test_truncated_file_is_refused(tmp_path):
    path = tmp_path / "report.json"
    path.write_bytes(realistic_report(layers=3).to_json().encode()[:-20])
    with pytest.raises(ToolError):
        Report.load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ToolError) as caught:
        Report.load(tmp_path / "none.json")
    assert "none.json" in caught.value.where


def test_a_picture_must_be_png_or_jpeg():
    with pytest.raises(ValueError, match="PNG or JPEG"):
        Picture("x", b"GIF89a")
    assert Picture("x", b"\xff\xd8\xff\xe0").mime == "image/jpeg"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "ms", "0 ms"),
        (24.7071, "ms", "24.71 ms"),
        (63.5091, "", "63.51"),
        (20288, "images", "20,288 images"),
        (999, "B", "999 B"),
        (1000, "B", "1 kB"),
        (13_000_000, "B", "13 MB"),
        (2.5e9, "B", "2.5 GB"),
        (-628_000, "B", "-628 kB"),
        (None, "J", "–"),
    ],
)
def test_quantity(value, unit, text):
    assert quantity(value, unit) == text


def test_drop_is_first_stage_minus_last():
    assert realistic_report().drop == pytest.approx(0.008)
    assert Report(title="r").drop is None
    assert Report(title="r", stages=[StageAccuracy("FP32", 0.5, 0.8, 1, "")]).drop is None


def test_comparison_knows_what_is_better():
    before = realistic_report()
    faster = [dataclasses.replace(figure, value=figure.value * 0.9) for figure in before.figures]
    changes = {change.name: change for change in compare(before, dataclasses.replace(before, figures=faster)).totals}
    assert changes["Latency"].improved is True
    assert changes["Frames a second"].improved is False
    assert changes["AP integer"].improved is None
    assert changes["Latency"].relative == pytest.approx(-0.1)


def test_comparison_of_equal_reports_has_no_changed_layer():
    assert compare(realistic_report(), realistic_report()).layers == []


def test_comparison_keeps_what_only_one_report_has():
    old = Report(title="old", figures=[Figure("xmodel", 1000, "B", "measured"), Figure("gone", 1, "", "measured")])
    new = Report(title="new", figures=[Figure("xmodel", 1, "MB", "measured")])
    rows = [(change.name, change.unit, change.before, change.after) for change in compare(old, new).totals]
    assert rows == [("xmodel", "MB", None, 1), ("xmodel", "B", 1000, None), ("gone", "", 1, None)]


def test_changed_layers_come_largest_first_and_dropped_ones_are_listed():
    old, new = realistic_report(20, seed=1), realistic_report(18, seed=1)
    slower = [dataclasses.replace(new.layers[0], ms=9.0), dataclasses.replace(new.layers[1], ms=2.0), *new.layers[2:]]
    layers = compare(old, dataclasses.replace(new, layers=slower)).layers
    assert [change.name for change in layers[:2]] == [new.layers[0].name, new.layers[1].name]
    assert {change.name for change in layers if change.after is None} == {row.name for row in old.layers[18:]}


def _printed(report: Report, width: int = 120) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(summary_table(report))
    return out.getvalue()


def test_summary_table_shows_each_number_with_its_source():
    text = _printed(realistic_report())
    for stage in ("FP32", "fake-quant", "integer"):
        assert f"AP {stage}" in text
    assert "0.404 (-0.008)" in text
    assert "24.71 ms" in text
    assert "modelled, ± 1 % on seven published rows" in text
    assert "6.28 MB" in text


def test_summary_table_does_not_interpret_markup():
    hostile = Report(title="[red]x[/red]", figures=[Figure("[bold]a[/]", 1, "[link]", "measured", "[/nothing]")])
    text = _printed(hostile)
    assert "[red]x[/red]" in text
    assert "[bold]a[/]" in text
    assert "[/nothing]" in text
