"""The seven published latency rows against the compiler's model, nothing fitted here."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowwatt.compiler import compile
from lowwatt.compiler.program import Program
from lpcv2021 import LATENCY_ROWS, LatencyRow
from yolox_graph import yolox_graph

ARRAY_USE = {288: 0.76, 320: 0.84, 352: 0.85, 416: 0.86}
"""MACs over the convolution array's peak in its own cycles, width .375 (docs/dpu.md 5.4)."""


def _compile(row: LatencyRow) -> Program:
    return compile(yolox_graph(row.width, row.side, row.channels, row.spp))


@pytest.mark.parametrize("row", LATENCY_ROWS, ids=lambda row: row.name)
def test_latency_row(row: LatencyRow) -> None:
    program = _compile(row)
    assert program.latency_ms == pytest.approx(row.latency_ms, rel=0.02)
    assert program.dpu_ms == pytest.approx(row.dpu_ms, rel=0.03)
    anchors = (row.side // 8) ** 2 * 21 // 16
    assert program.host_ms == pytest.approx(32.9e-6 * 85 * anchors + 1.85, rel=1e-9)


@pytest.mark.parametrize("row", LATENCY_ROWS[3:], ids=lambda row: row.name)
def test_array_use(row: LatencyRow) -> None:
    program = _compile(row)
    conv = sum(layer.cycles["conv"] for layer in program.layers)
    assert program.macs / (1152 * conv) == pytest.approx(ARRAY_USE[row.side], abs=0.005)


def test_layers_and_work_of_the_winner() -> None:
    program = compile(yolox_graph(0.375, 320))
    assert len(program.layers) == 90  # docs/training-recipe.md 1
    assert program.macs == pytest.approx(2.033e9, rel=1e-3)
    assert all(layer.where == "dpu" for layer in program.layers)
    assert [segment.where for segment in program.segments] == ["dpu"]


def test_mean_error_over_the_rows() -> None:
    errors = [abs(_compile(row).latency_ms / row.latency_ms - 1) for row in LATENCY_ROWS]
    assert sum(errors) / len(errors) < 0.01


def test_the_captured_network_takes_the_same_time() -> None:
    pytest.importorskip("torch")
    from lowwatt.recipe import load_recipe
    from lowwatt.verbs.compile import untrained_graph

    captured = compile(untrained_graph(load_recipe(None, ["model.size=320"]), 80))
    built = compile(yolox_graph(0.375, 320))
    assert sorted(layer.ms for layer in captured.layers) == pytest.approx(sorted(layer.ms for layer in built.layers))
    assert captured.macs == built.macs and captured.host_ms == pytest.approx(built.host_ms)


def test_yolox_nano_runs_with_its_silu_on_the_host(shared: Path) -> None:
    """Other people's network: every operator gets a verdict, those that stay are the known ones (docs/dpu.md 2)."""
    from lowwatt.ir import onnx_reader

    program = compile(onnx_reader.read(shared / "data/weights/yolox_nano_416.onnx"), "kv260")
    host = {verdict.op for verdict in program.verdicts if verdict.where == "host"}
    assert {"sigmoid", "mul", "slice", "max_pool"} <= host
    assert not host & {"conv2d", "depthwise_conv2d", "add", "resize"}
    assert 0 < program.host_nodes_ms < program.host_ms
    assert len(program.segments) > 100
