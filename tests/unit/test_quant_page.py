"""The page of a quantization, read as text; tests/e2e looks at it in a browser."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from lowwatt.evaluate.quant_page import Layer, QuantRecord, Stage, Step, TensorRow, render_quant, write_quant_html
from page_reader import HOSTILE, Page
from quant_page_data import quant_record


def sections(text: str) -> set[str | None]:
    return {attributes.get("id") for tag, attributes in Page(text).tags if tag == "section"} - {None}


def test_page_is_the_same_for_the_same_record_and_written_whole(tmp_path):
    write_quant_html(quant_record(), tmp_path / "quant.html")
    assert (tmp_path / "quant.html").read_text(encoding="utf-8") == render_quant(quant_record())
    assert [path.name for path in tmp_path.iterdir()] == ["quant.html"]


def test_page_asks_the_network_for_nothing():
    text = render_quant(quant_record())
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "://" not in text and "default-src 'none'" in text


def test_every_layer_has_a_row_and_a_bar_in_each_chart():
    page = Page(render_quant(quant_record(60)))
    assert [a["id"] for tag, a in page.tags if tag == "tr" and "id" in a] == [f"layer-{n}" for n in range(60)]
    bars = [a["class"] for tag, a in page.tags if tag == "rect" and (a.get("class") or "").startswith("bar")]
    assert len(bars) == 4 * 60
    exact = sum(value >= 100 for layer in quant_record(60).layers for value in layer.alone.values())
    assert exact and bars.count("bar c5") == exact
    assert page.count("polyline") == 1


def test_links_of_bars_lead_to_rows():
    page = Page(render_quant(quant_record(20)))
    names = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {link.removeprefix("#") for link in links} <= names


def test_numbers_are_there_as_they_are_printed():
    text = render_quant(quant_record())
    for expected in ("AP 0.3121 → 0.3009 (−0.0112), within the 0.05 allowed", "−0.0109", "21.00", "250.6", "2⁻⁷"):
        assert expected in text
    assert "rounded values in float, on torch" in text and "image 7 is black" in text


def test_the_change_of_a_step_is_against_the_last_that_was_kept():
    changes = re.findall(r'<span class="(better|worse)">([^<]+)</span>', render_quant(quant_record()))
    assert changes == [("better", "+1.25"), ("worse", "−0.25"), ("better", "+2.50")]
    assert render_quant(quant_record()).count("taken back</td>") == 1


def test_layers_from_which_most_is_to_be_gained_are_named_first():
    text = render_quant(quant_record())
    ranked = re.findall(r'<a href="#layer-(\d+)"><bdi>', text)
    gains = [quant_record().layers[int(index)].gain for index in ranked]
    assert gains == sorted((layer.gain for layer in quant_record().layers), reverse=True)[:10]


@pytest.mark.parametrize(
    ("change", "colour"),
    [({}, "good"), ({"verdict": "the integers lose 0.2"}, "bad"), ({"stages": []}, "")],
    ids=["good", "bad", "unknown"],
)
def test_colour_of_the_verdict(change, colour):
    text = render_quant(dataclasses.replace(quant_record(), **change))
    assert f'<p class="headline {colour}">' in text
    assert ("the integers lose 0.2" in text) == (colour == "bad")
    assert ("within the 0.05 allowed" in text) == (colour == "good")


def test_without_accuracy_the_headline_says_so():
    text = render_quant(dataclasses.replace(quant_record(), stages=[]))
    assert "Accuracy was not measured, outputs at 21.0 dB signal to noise" in text


@pytest.mark.parametrize(
    ("part", "section"),
    [
        ("stages", {"accuracy"}),
        ("layers", {"layers"}),
        ("steps", {"steps"}),
        ("warnings", {"warnings"}),
        ("tensors", {"plan", "floats"}),
    ],
)
def test_a_missing_part_has_no_section(part, section):
    everything = {"accuracy", "steps", "warnings", "layers", "plan", "floats"}
    assert sections(render_quant(quant_record())) == everything
    without = render_quant(dataclasses.replace(quant_record(), **{part: []}))
    assert sections(without) == everything - section
    assert not any(f'href="#{name}"' in without for name in section)


def layer(alone: dict[str, float], accumulated: float = 30.0, gain: float = 0.1) -> Layer:
    return Layer("a", "conv2d", 8, alone, accumulated, 1.0, gain)


@pytest.mark.parametrize(
    "record",
    [
        QuantRecord("nothing", "vitis", "fast", 0),
        QuantRecord("zero AP", "vitis", "fast", 1, stages=[Stage("FP32", 0.0, ""), Stage("integer", 0.0, "")]),
        QuantRecord("one stage", "vitis", "fast", 1, stages=[Stage("FP32", 0.5, "")]),
        QuantRecord("one layer", "vitis", "fast", 1, layers=[layer({"out": 20.0})]),
        QuantRecord("exact", "vitis", "fast", 1, layers=[layer({"out": 100.0}, 100.0, 0.0)] * 3),
        QuantRecord("noise", "vitis", "fast", 1, layers=[layer({"out": -3.0}, -5.0, -0.5)] * 3),
        QuantRecord("no outputs", "vitis", "fast", 1, layers=[layer({})] * 2),
        QuantRecord("not a number", "vitis", "fast", 1, layers=[layer({"out": math.nan}, math.nan, math.nan)] * 2),
        QuantRecord("many", "vitis", "fast", 1, layers=[layer({f"out{n}": 9.0 for n in range(30)})] * 2),
        QuantRecord("dropped", "vitis", "fast", 1, steps=[Step("a", 1.0, 3.0, False)]),
    ],
    ids=lambda record: record.title,
)
def test_sparse_records_render(record):
    text = render_quant(record)
    Page(text)
    assert record.title in text
    assert not re.search(r'(?:height|y|points|width)="[^"]*nan', text)


def test_hostile_text_stays_text():
    text = HOSTILE
    record = QuantRecord(
        title=text,
        scheme=text,
        effort=text,
        images=1,
        bits=text,
        formats=text,
        calibration=text,
        measure=text,
        stages=[Stage(text, 0.1, text), Stage(text, 0.1, text)],
        verdict=text,
        steps=[Step(text, 1.0, 2.0, True)],
        warnings=[text],
        layers=[Layer(text, text, 8, {text: 3.0}, 3.0, 1.0, 1.0)] * 2,
        tensors=[TensorRow(text, text, text, text, text), TensorRow(text, text, "float", text, text)],
    )
    page = Page(render_quant(record))
    assert page.count("script") == 1 and page.count("img") == 0
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert any(HOSTILE in found for found in page.text)
    assert "49" not in page.text
