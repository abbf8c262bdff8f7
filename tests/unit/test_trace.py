"""The trace of a program, why its layers use the array as they do, and what `lowwatt compile` prints of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lowwatt.cli.tables import layer_summary, layer_table
from lowwatt.compiler import Program, compile
from lowwatt.compiler.losses import why_low
from lowwatt.compiler.trace import busy_shares, save_trace
from lowwatt.ir.graph import Graph
from yolox_graph import yolox_graph


def one_convolution(side: int, inputs: int, outputs: int) -> Program:
    g = Graph("net")
    x = g.add_input("x", (1, side, side, inputs))
    w = g.add_constant("w", np.zeros((outputs, 1, 1, inputs), np.float32))
    g.outputs = [g.add("conv2d", [x, w], "conv")]
    return compile(g)


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_a_trace_has_a_slice_for_each_instruction(tmp_path: Path, schedule: str) -> None:
    program = compile(yolox_graph(0.125, 64), schedule=schedule)
    save_trace(program, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    by_track = {name: [s for s in slices if tracks[s["tid"]] == name] for name in tracks.values()}
    engines = [by_track[name] for name in ("LOAD", "SAVE", "CONV", "MISC")]
    assert sum(map(len, engines)) == len(program.segments[0].instructions)
    assert len(by_track["layers"]) == len(program.layers)
    assert {s["args"]["layer"] for part in engines for s in part if "layer" in s["args"]} <= {
        layer.name for layer in program.layers
    }
    for part in by_track.values():  # slices of a track follow one another
        ends = [s["ts"] + s["dur"] for s in part]
        assert all(s["ts"] >= end - 1e-6 for s, end in zip(part[1:], ends, strict=False))
    assert max(s["ts"] + s["dur"] for s in slices) == pytest.approx(program.latency_ms * 1e3)


def test_a_trace_puts_host_nodes_between_the_segments(tmp_path: Path) -> None:
    g = Graph("net")
    x = g.add_input("x", (1, 8, 8, 12))
    w = g.add_constant("w", np.zeros((12, 1, 1, 12), np.float32))
    y = g.add("silu", [g.add("conv2d", [x, w], "a")], "act")
    g.outputs = [g.add("conv2d", [y, w], "b")]
    program = compile(g)
    save_trace(program, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    at = {event["name"]: event["ts"] for event in events if event["ph"] == "X" and event["name"] in ("a", "act", "b")}
    assert 0 == at["a"] < at["act"] < at["b"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [((8, 3, 12), "3/12 in"), ((8, 12, 30), "30/36 out"), ((10, 12, 12), "10/16 rows")],
)
def test_lines_of_the_array_that_stay_empty_are_named(shape: tuple[int, int, int], words: str) -> None:
    program = one_convolution(*shape)
    found = why_low(program.layers[0], program.graph, program.target)
    assert found.startswith(words) and "waits for" in found  # so small a layer is mostly loading


def test_work_without_the_array_is_called_so() -> None:
    g = Graph("net")
    g.outputs = [g.add("max_pool", [g.add_input("x", (1, 8, 8, 12))], "y", kernel=(2, 2), stride=(2, 2))]
    program = compile(g)
    assert why_low(program.layers[0], g, program.target) == "no convolution"


def test_the_table_fits_a_terminal() -> None:
    program = compile(yolox_graph(0.375, 320))
    console = Console(width=100, record=True)
    console.print(layer_table(program))
    text = console.export_text()
    assert "…" not in text and all(len(line.rstrip()) <= 100 for line in text.splitlines())
    assert "waits for LOAD" in " ".join(text.split()) or "LOAD" in text
    assert "conv1 " in text and "1/12 in" in text
    assert "90 layers" in layer_summary(program)


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_shares_of_busy_time_add_up_to_the_cycles(schedule: str) -> None:
    program = compile(yolox_graph(0.125, 64), schedule=schedule)
    for engine, shares in busy_shares(program, 50).items():
        worked = sum(layer.cycles[engine] for layer in program.layers) * program.target.cycle_ns / 1e6
        assert sum(shares) / 50 * program.dpu_ms == pytest.approx(worked, rel=1e-3)
