"""The HTML page and its charts, read as text; tests/e2e looks at it in a browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lowwatt.evaluate.figures import Block, Column, Lane, Spot, columns, line, nice_ticks, roofline, timeline
from lowwatt.evaluate.page import colours_of, machine_view, render
from lowwatt.evaluate.report import (
    EpochRow,
    Figure,
    LayerRow,
    OffAccelerator,
    Picture,
    Report,
    StageAccuracy,
    write_html,
)
from page_reader import HOSTILE, Page
from report_data import png, realistic_report


def hostile_report() -> Report:
    """Every text of a report is somebody's attempt to get out of its place."""
    text = HOSTILE
    return Report(
        title=text,
        when=text,
        headline=text,
        versions={text: text},
        recipe=text,
        stages=[StageAccuracy(text, 0.1, 0.2, 1, text), StageAccuracy(text + "2", 0.1, 0.2, 1, text)],
        figures=[Figure(text, 1.0, text, "measured", text)],
        layers=[LayerRow(text, text, text, 1, {text: 1}, 1, 1, 1.0, 0.5, text, 3.0, text)],
        verdicts=[OffAccelerator(text, text, text, text)],
        training=[EpochRow(1, 2.0, 0.1), EpochRow(2, 1.0, 0.2)],
        images=[Picture(text, png(1, 2, 3, side=2))],
        notes=[text],
    )


def test_page_is_the_same_for_the_same_report_and_written_whole(tmp_path):
    write_html(realistic_report(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(realistic_report())


def test_page_asks_the_network_for_nothing():
    page = Page(render(realistic_report(), realistic_report(seed=1)))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), (tag, address)
    assert "://" not in render(realistic_report())
    assert not re.search(r"@import|url\(", render(realistic_report()))


def test_policy_allows_only_the_script_of_the_page():
    text = render(realistic_report())
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    policy = next(a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_text_stays_text():
    page = Page(render(hostile_report(), dataclasses.replace(hostile_report(), figures=[])))
    assert page.count("script") == 1
    assert page.count("img") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert any(HOSTILE in text for text in page.text)
    assert "49" not in page.text


def test_every_layer_epoch_and_picture_is_there():
    report = realistic_report(90)
    page = Page(render(report))
    assert [a["id"] for tag, a in page.tags if tag == "tr" and "id" in a] == [f"layer-{n}" for n in range(90)]
    assert page.count("img") == len(report.images)
    assert {"accuracy", "layers", "verdicts", "training", "images", "notes", "recipe"} <= {
        a.get("id") for tag, a in page.tags if tag == "section"
    }


@pytest.mark.parametrize(
    "report",
    [
        Report(title="nothing"),
        Report(title="one epoch", training=[EpochRow(1, 2.0, 0.1)]),
        Report(title="no AP", stages=[StageAccuracy("FP32", None, None, 0, "no boxes")]),
        Report(title="zeros", layers=[LayerRow("a", "concat", "dpu", 0, {}, 0, 0, 0.0, 0.0, "load")]),
        Report(title="noise", layers=[LayerRow("a", "add", "dpu", 0, {}, 0, 0, 1.0, 0.0, "misc", -3.0)]),
        Report(title="figures", figures=[Figure("energy", None, "J", "modelled")]),
        Report(title="dead", training=[EpochRow(1, None), EpochRow(2, None)]),
    ],
    ids=lambda report: report.title,
)
def test_sparse_reports_render(report):
    assert report.title in render(report)
    Page(render(report, report))


def test_comparison_has_its_section():
    page = render(realistic_report(), dataclasses.replace(realistic_report(seed=3), title="yesterday"))
    assert "Compared with yesterday" in page
    assert "Layers whose time changed most" in page
    assert re.search(r"\(12 of \d\d\)", page)


def test_colours_stay_with_their_engine():
    assert colours_of(["host", "misc", "conv"]) == {"conv": 0, "misc": 3, "host": 5}
    assert colours_of(["LOAD"]) == {"LOAD": 1}
    assert set(colours_of(f"engine {n}" for n in range(9)).values()) <= set(range(6))


@pytest.mark.parametrize("top", [1e-12, 3e-5, 0.83, 1, 1.01, 5, 7, 9.99, 42, 1000, 123456.7, 1e12])
def test_ticks_are_round_few_and_cover(top):
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-2] < top <= ticks[-1] * (1 + 1e-9)
    assert 3 <= len(ticks) <= 7
    assert all(re.fullmatch(r"[\d.]{1,7}(e[+-]\d+)?", f"{tick:g}") for tick in ticks)


def test_columns_are_as_high_as_their_values():
    chart = columns([Column(v, 0, f"v{v}", "#") for v in (0, 5, 10, -4)], "ms", "time", ("a", "b"))
    bars = [r for r in ElementTree.fromstring(chart).iter("rect") if r.get("class", "").startswith("bar")]
    assert [float(bar.get("height")) for bar in bars] == [0, 100, 200, 0]
    assert all(float(bar.get("y")) + float(bar.get("height")) == 200 for bar in bars)


@pytest.mark.parametrize(
    ("values", "boxes", "ticks"),
    [
        ((10, -5, 0), [(0, 133.33), (133.33, 66.67), (133.33, 0)], ["−5", "0", "5", "10 dB"]),
        ((10, 1), [(0, 200), (180, 20)], ["0", "2", "4", "6", "8", "10 dB"]),
        ((-1.0, -0.5), [(0, 200), (0, 100)], ["−1", "−0.8", "−0.6", "−0.4", "−0.2", "0 dB"]),
        ((0, 0), [(200, 0), (200, 0)], ["0", "1 dB"]),
        ((), [], ["0", "1 dB"]),
    ],
)
def test_signed_columns_hang_below_zero(values, boxes, ticks):
    chart = ElementTree.fromstring(
        columns([Column(v, 0, f"v{v}", "#") for v in values], "dB", "gain", ("a", "b"), signed=True)
    )
    bars = [r for r in chart.iter("rect") if r.get("class", "").startswith("bar")]
    assert [(float(b.get("y")), float(b.get("height"))) for b in bars] == [pytest.approx(b, abs=0.01) for b in boxes]
    texts = [span.text for span in chart.iter("span") if span.get("class") == "tick"]
    assert texts == ticks


@pytest.mark.parametrize("values", [(0.01, -80), (80, -0.01), (7, -7), (-3e-9, 1e-9)])
def test_signed_columns_have_few_ticks(values):
    chart = columns([Column(v, 0, "", "#") for v in values], "dB", "gain", ("a", "b"), signed=True)
    assert 3 <= chart.count('class="tick"') <= 8


def test_line_goes_from_edge_to_edge():
    chart = line([(5, 1.0), (10, 0.5), (15, 0.0)], ["a", "b", "c"], 1, "loss", ("epoch 5", "15"))
    path = next(ElementTree.fromstring(chart).iter("polyline")).get("points")
    assert path == "0.0,0.0 500.0,100.0 1000.0,200.0"


def test_timeline_and_roofline_are_drawn_where_the_machine_is_known():
    with_machine = realistic_report()
    page = render(with_machine)
    assert page.count('class="lane ') == 4 and 'class="dot ' in page
    without = dataclasses.replace(with_machine, machine=None)
    assert 'class="lane ' not in render(without) and 'class="dot ' not in render(without)


def test_a_time_line_has_a_stretch_for_each_layer_and_a_step_for_each_span() -> None:
    blocks = [Block(0, 0.25, 0, "a <b>", "#layer-0"), Block(0.25, 1, 1, "c", "#layer-1")]
    chart = ElementTree.fromstring(timeline(blocks, [Lane("LOAD", 1, [0, 1, 1, 0.5])], "time", 20.0))
    hits = [rect for rect in chart.iter("rect") if rect.get("class") == "hit"]
    assert [(float(hit.get("x")), float(hit.get("width"))) for hit in hits] == [(0, 250), (250, 750)]
    assert [hit.findtext("title") for hit in hits] == ["a <b>", "c"]
    (lane,) = (path.get("d") for path in chart.iter("path") if path.get("class").startswith("lane"))
    assert lane == "M0 200.0H0.0V200.0H250.0V50.4H750.0V125.2H1000V200.0Z"
    assert chart.get("data-ms") == "20.0" and "LOAD 62 %" in ElementTree.tostring(chart, "unicode")


def test_a_roofline_puts_layers_under_the_roof() -> None:
    spots = [Spot(10, 20, 0.5, 0, "slow", "#layer-0"), Spot(1000, 100, 0.25, 1, "fast", "#layer-1")]
    chart = ElementTree.fromstring(roofline(spots, 100, 2))
    roof = [tuple(map(float, point.split(","))) for point in next(chart.iter("polyline")).get("points").split()]
    dots = {path.findtext("title"): path.get("d") for path in chart.iter("path")}
    assert roof[1][1] == roof[2][1] == pytest.approx(200 / 3, abs=0.1)  # 1 … 1000 GOPS over 200 units
    x, y = map(float, dots["fast"].removeprefix("M").removesuffix("h.01").split())
    assert (x, y) == (roof[2][0], roof[1][1])
    x, y = map(float, dots["slow"].removeprefix("M").removesuffix("h.01").split())
    slope = (roof[1][1] - roof[0][1]) / (roof[1][0] - roof[0][0])
    assert y == pytest.approx(roof[0][1] + slope * (x - roof[0][0]), abs=0.2)  # 2 GB/s times 10 operations a byte


def test_where_the_time_goes_adds_up() -> None:
    report = realistic_report()
    assert report.machine is not None
    spent = machine_view(report)["spent"]
    assert sum(ms for *_, ms in spent) == pytest.approx(report.machine.ms, rel=0.005)
    assert spent[0][0] == "useful work" and {"waits for LOAD", "waits for MISC"} <= {name for name, *_ in spent}
    older = dataclasses.replace(report, layers=[dataclasses.replace(row, waits={}) for row in report.layers])
    assert machine_view(older)["spent"] == [] and 'class="stack"' not in render(older)
