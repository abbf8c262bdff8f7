"""The seven published latency rows against the time of the emitted programs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lowwatt.compiler import Program, compile
from lpcv2021 import LATENCY_ROWS, HostTerm, LatencyRow, TimedRow
from yolox_graph import yolox_graph


@cache
def _compile(row: LatencyRow) -> Program:
    return compile(yolox_graph(row.width, row.side, row.channels, row.spp))


def _elements(row: LatencyRow) -> int:
    """85 values at each of the anchor points of three strides."""
    return 85 * (row.side // 8) ** 2 * 21 // 16


def _timed() -> list[TimedRow]:
    return [TimedRow(row.latency_ms, _compile(row).dpu_ms, _elements(row)) for row in LATENCY_ROWS]


def test_latency_rows_with_the_host_fitted() -> None:
    rows = _timed()
    host = HostTerm.fit(rows)
    assert np.mean([abs(row.error(host)) for row in rows]) <= 0.01


def test_latency_rows_each_left_out_of_the_fit() -> None:
    rows = _timed()
    errors = [abs(row.error(host)) for row, host in zip(rows, HostTerm.left_out(rows), strict=True)]
    assert np.mean(errors) <= 0.015


@pytest.mark.parametrize("row", LATENCY_ROWS, ids=lambda row: row.name)
def test_latency_row_as_printed(row: LatencyRow) -> None:
    """With the target's own host term."""
    program = _compile(row)
    host = program.target.host
    assert program.latency_ms == pytest.approx(row.latency_ms, rel=0.02)
    assert program.host_ms == pytest.approx(host.element_ns * 1e-6 * _elements(row) + host.frame_ms, rel=1e-9)


def test_layers_and_work_of_the_winner() -> None:
    program = compile(yolox_graph(0.375, 320))
    assert len(program.layers) == 90  # docs/training-recipe.md 1
    assert program.macs == pytest.approx(2.033e9, rel=1e-3)
    assert all(layer.where == "dpu" for layer in program.layers)
    assert [segment.side for segment in program.segments] == ["dpu"]


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
