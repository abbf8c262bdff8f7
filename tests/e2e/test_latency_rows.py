"""The seven published latency rows against the compiler's model, nothing fitted here."""

from __future__ import annotations

import pytest

from lowwatt.compiler import compile
from lowwatt.compiler.program import Program
from lpcv2021 import LATENCY_ROWS, LatencyRow
from yolox_graph import yolox_graph

ARRAY_USE = {288: 0.76, 320: 0.84, 352: 0.85, 416: 0.86}
"""MACs over the convolution array's peak in its own cycles, width .375 (dpu.md 3.4)."""


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
    assert len(program.layers) == 90  # dpu.md 3.3: 90 fused layers
    assert program.macs == pytest.approx(2.033e9, rel=1e-3)
    assert all(layer.where == "dpu" for layer in program.layers)
    assert [segment.where for segment in program.segments] == ["dpu"]


def test_mean_error_over_the_rows() -> None:
    errors = [abs(_compile(row).latency_ms / row.latency_ms - 1) for row in LATENCY_ROWS]
    assert sum(errors) / len(errors) < 0.01
