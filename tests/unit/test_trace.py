"""The trace of a program, and how busy its engines are over time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lowwatt.compiler import compile
from lowwatt.compiler.trace import busy_shares, save_trace, trace_events
from lowwatt.ir.graph import Graph
from yolox_graph import yolox_graph


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


def test_events_are_of_the_trace_event_format(tmp_path: Path) -> None:
    """Keys and types by phase, as the format's description has them; ui.perfetto.dev drops what differs in silence."""
    save_trace(compile(yolox_graph(0.125, 64), schedule="best"), tmp_path / "trace.json")
    content = json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)
    assert set(content) == {"displayTimeUnit", "traceEvents"} and content["displayTimeUnit"] in ("ms", "ns")
    keys = {"X": {"ph", "pid", "tid", "name", "ts", "dur", "args"}, "C": {"ph", "pid", "name", "ts", "args"}}
    for event in content["traceEvents"]:
        assert event["ph"] in ("M", "X", "C") and isinstance(event["name"], str) and isinstance(event["pid"], int)
        assert event["ph"] == "M" or set(event) == keys[event["ph"]]
        assert all(event[key] >= 0 for key in ("ts", "dur") if key in event)
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())


def test_a_slice_tells_the_fields_of_its_instruction() -> None:
    program = compile(yolox_graph(0.125, 64))
    slices = [event for event in trace_events(program) if event["ph"] == "X" and "position" in event["args"]]
    for event in slices[:200]:
        one = program.segments[0].instructions[event["args"]["position"]]
        tokens = {"depends_on": " ".join(one.depends_on), "depended_by": " ".join(one.depended_by)}
        assert event["name"] == one.name and (one.numbers | tokens).items() <= event["args"].items()


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_the_counter_of_traffic_adds_up_to_the_bytes(schedule: str) -> None:
    program = compile(yolox_graph(0.125, 64), schedule=schedule)
    steps = [event for event in trace_events(program) if event["ph"] == "C"]
    span = (steps[1]["ts"] - steps[0]["ts"]) * 1e3
    for name, field in (("LOAD GB/s", "load_bytes"), ("SAVE GB/s", "save_bytes")):
        moved = sum(getattr(layer, field) for layer in program.layers)
        assert sum(step["args"][name] for step in steps) * span == pytest.approx(moved, rel=1e-2)
    assert set(steps[-1]["args"].values()) == {0.0}


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_shares_of_busy_time_add_up_to_the_cycles(schedule: str) -> None:
    program = compile(yolox_graph(0.125, 64), schedule=schedule)
    for engine, shares in busy_shares(program, 50).items():
        worked = sum(layer.cycles[engine] for layer in program.layers) * program.target.cycle_ns / 1e6
        assert sum(shares) / 50 * program.dpu_ms == pytest.approx(worked, rel=1e-3)
