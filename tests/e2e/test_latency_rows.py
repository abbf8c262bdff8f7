"""The seven published latency rows (facts: lpcv2021.md 3) against the compiler's model, nothing fitted here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lowwatt.compiler import compile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from yolox_graph import yolox_graph

# name, width, side, channels, SPP, published latency ms, DPU part ms and array use by the facts (dpu.md 3.3, 3.4)
ROWS = [
    ("w.375 416", 0.375, 416, 3, True, 38.906, 27.30, None),
    ("w.3125 416 without SPP", 0.3125, 416, 3, False, 32.232, 20.26, None),
    ("w.25 416", 0.25, 416, 3, True, 27.575, 15.79, None),
    ("gray 288", 0.375, 288, 1, True, 21.817, 15.15, 0.76),
    ("gray 320", 0.375, 320, 1, True, 24.557, 16.99, 0.84),
    ("gray 352", 0.375, 352, 1, True, 28.835, 19.74, 0.85),
    ("gray 416", 0.375, 416, 1, True, 38.838, 27.19, 0.86),
]


@pytest.mark.parametrize("name, width, side, channels, spp, latency, dpu, use", ROWS)
def test_latency_row(
    name: str, width: float, side: int, channels: int, spp: bool, latency: float, dpu: float, use: float | None
) -> None:
    program = compile(yolox_graph(width, side, channels, spp))
    assert program.latency_ms == pytest.approx(latency, rel=0.02)
    assert program.dpu_ms == pytest.approx(dpu, rel=0.03)
    assert program.host_ms == pytest.approx(32.9e-6 * 85 * (side // 8) ** 2 * 21 / 16 + 1.85, rel=1e-9)
    if use is not None:
        conv = sum(layer.cycles["conv"] for layer in program.layers)
        assert program.macs / (1152 * conv) == pytest.approx(use, abs=0.005)


def test_layers_and_work_of_the_winner() -> None:
    program = compile(yolox_graph(0.375, 320))
    assert len(program.layers) == 90  # dpu.md 3.3: 90 fused layers
    assert program.macs == pytest.approx(2.033e9, rel=1e-3)
    assert all(layer.where == "dpu" for layer in program.layers)
    assert [segment.where for segment in program.segments] == ["dpu"]
