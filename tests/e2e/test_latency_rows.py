"""The seven published latency rows against the time of the emitted programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lowwatt.compiler import Program, compile
from lpcv2021 import LATENCY_ROWS, LatencyRow
from yolox_graph import yolox_graph


@cache
def _compile(row: LatencyRow) -> Program:
    return compile(yolox_graph(row.width, row.side, row.channels, row.spp))


def _host(rows: Sequence[LatencyRow]) -> tuple[float, float]:
    """Nanoseconds an output element and milliseconds a frame, by least squares of the relative errors."""
    published = np.array([row.latency_ms for row in rows])
    dpu = np.array([_compile(row).dpu_ms for row in rows])
    terms = np.stack([[_elements(row) * 1e-6 for row in rows], np.ones(len(rows))], axis=1) / published[:, None]
    element, frame = np.linalg.lstsq(terms, 1 - dpu / published, rcond=None)[0]
    return float(element), float(frame)


def _elements(row: LatencyRow) -> int:
    """85 values at each of the anchor points of three strides."""
    return 85 * (row.side // 8) ** 2 * 21 // 16


def _error(row: LatencyRow, host: tuple[float, float]) -> float:
    return abs((_compile(row).dpu_ms + host[0] * _elements(row) * 1e-6 + host[1]) / row.latency_ms - 1)


def test_latency_rows_with_the_host_fitted() -> None:
    host = _host(LATENCY_ROWS)
    assert np.mean([_error(row, host) for row in LATENCY_ROWS]) <= 0.01


def test_latency_rows_each_left_out_of_the_fit() -> None:
    others = ([other for other in LATENCY_ROWS if other is not row] for row in LATENCY_ROWS)
    errors = [_error(row, _host(rest)) for row, rest in zip(LATENCY_ROWS, others, strict=True)]
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
