"""quantize --report: the record of a quantization says what plan, steps and layers say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.quant_graphs import images, residual_graph

from lowwatt.evaluate.quant_page import QuantRecord, render_quant
from lowwatt.quant import QuantReport, quantize
from lowwatt.quant.sensitivity import layer_errors
from lowwatt.recipe import QuantSettings
from lowwatt.types import QuantParams
from lowwatt.verbs.quantize import stages_of
from lowwatt.verbs.quantize_report import RUNS_ON, record_of, step_text


def made(scheme: str, **changes: Any) -> tuple[QuantReport, QuantRecord]:
    report = quantize(residual_graph(), images(2), scheme=scheme)
    result = {"measure": "AP", "accuracy": {}, "scored": 0, "layers": [], "analysed": 0, "verdict": ""} | changes
    return report, record_of("net.onnx", QuantSettings(scheme=scheme), report, result)


@pytest.mark.parametrize("scheme", ["vitis", "onnxruntime"])
def test_the_plan_is_told_whole(scheme: str) -> None:
    report, record = made(scheme)
    told = {f"{row.name}: {row.format} ({row.rule.split('; scale shared')[0]})" for row in record.tensors}
    assert set(report.plan.explain()) <= told
    assert all(row.step for row in record.tensors if row.format != "float")
    shared = [row.name for row in record.tensors if "; scale shared with " in row.rule]
    assert set(shared) == {slot.name for slot in report.plan.slots.values() if slot.group != slot.name}


def test_biases_are_told_to_be_in_float_where_the_scheme_has_none() -> None:
    report, record = made("academic")
    assert report.plan.scheme.bias is None
    biases = [row.name for row in record.tensors if row.kind == "bias"]
    assert biases and all(report.quantized.tensor(name).quant is None for name in biases)
    assert not [row for row in made("vitis")[1].tensors if row.kind == "bias" and row.format == "float"]


def test_steps_stages_and_layers_keep_their_numbers() -> None:
    accuracy = {"FP32": 0.5, "fake-quant": 0.4, "integer": 0.3}
    report, _ = made("vitis")
    layers = layer_errors(report, np.concatenate(list(images(2))))
    report, record = made("vitis", accuracy=accuracy, scored=7, layers=layers, analysed=2, verdict="too much")
    assert [step.snr_db for step in record.steps] == [note.snr_db for note in report.notes]
    assert [(layer.name, layer.gain, layer.alone) for layer in record.layers] == [
        (row.node, row.gain, row.alone) for row in layers
    ]
    assert {stage.name: stage.value for stage in record.stages} == accuracy
    assert all("7 images" in stage.source for stage in record.stages)
    assert record.status == "bad" and "too much" in render_quant(record)


@pytest.mark.parametrize("scheme", ["vitis", "onnxruntime"])
def test_each_stage_says_what_computes_it(scheme: str) -> None:
    assert set(stages_of(made(scheme)[0])) <= set(RUNS_ON)


@pytest.mark.parametrize(
    ("quant", "text"),
    [
        (QuantParams.power_of_two(5), "2⁻⁵"),
        (QuantParams.power_of_two(-12), "2¹²"),
        (QuantParams(0.0123, 3), "0.0123, zero point 3"),
        (QuantParams(0.5, 3), "0.5, zero point 3"),
        (QuantParams((0.5, 0.25), axis=0), "0.25…0.5, 2 scales"),
        (QuantParams((0.5, 0.25), axis=0, zero_points=(3, 4)), "0.25…0.5, 2 scales, a zero point each"),
    ],
)
def test_step_in_words(quant: QuantParams, text: str) -> None:
    assert step_text(quant) == text
