"""Trace: when each instruction runs, in the JSON that chrome://tracing and ui.perfetto.dev read.

Tracks: the layers, the four engines, the host, and a counter of DRAM traffic. An instruction's fields are its
arguments. Segments follow one another. A layer's slice is the time by which it makes the program longer, so that slices
do not overlap and add up; its instructions may begin before it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.compiler.clock import Numbers, Times, time_program, work_of
from lowwatt.compiler.costs import LayerCost
from lowwatt.compiler.details import parts
from lowwatt.compiler.isa import ENGINES
from lowwatt.compiler.program import Program
from lowwatt.compiler.segment import Segment
from lowwatt.files import write_text

_TRACKS = ("layers", *ENGINES, "host")
_US_PER_MS = 1e3
TRAFFIC_NS = 5e3
"""Span over which the counter of DRAM traffic is averaged, nanoseconds."""

_NS_PER_US = 1e3
Event = dict[str, Any]


def trace_events(program: Program) -> list[Event]:
    """Events of a frame, times in microseconds; a slice is an event of phase X, a counter's step one of phase C."""
    events, now = list(_names(program)), 0.0
    for segment, rows in parts(program):
        if segment.side == "dpu":
            times = time_program(segment.instructions, program.target)
            events.extend(_instructions(segment, times, now))
            events.extend(_traffic(segment, times, now))
        events.extend(_layers(rows, "layers" if segment.side == "dpu" else "host", now))
        now += sum(row.ms for row in rows) * _US_PER_MS
    reading = (program.host_ms - program.host_nodes_ms) * _US_PER_MS
    return [*events, _slice("read the outputs", "host", now, reading, {})]


def busy_shares(program: Program, bins: int) -> dict[str, list[float]]:
    """For each engine the share of each of so many equal spans of the accelerator's time in which it works."""
    segments = [segment for segment in program.segments if segment.side == "dpu"]
    times = [time_program(segment.instructions, program.target) for segment in segments]
    begins = np.cumsum([0.0, *(one.total for one in times)])
    edges = np.linspace(0, begins[-1], bins + 1)
    found = {}
    for index, engine in enumerate(ENGINES):
        worked = np.zeros(bins + 1)
        for segment, one, begin in zip(segments, times, begins[:-1], strict=True):
            mine = np.array([ENGINES.index(i.engine) for i in segment.instructions]) == index
            worked += _sums(edges, begin + one.start[mine], begin + one.end[mine], one.duration[mine])
        found[engine.lower()] = (np.diff(worked) / max(edges[1], 1e-9)).round(4).clip(0, 1).tolist()
    return found


def _sums(at: Numbers, starts: Numbers, ends: Numbers, amounts: Numbers) -> Numbers:
    """How much of the amounts is done at each time, where each grows evenly from its start to its end."""
    if not len(amounts):
        return np.zeros(len(at))
    done = np.stack([np.zeros(len(amounts)), amounts], axis=1).ravel().cumsum()
    found: Numbers = np.interp(at, np.stack([starts, ends], axis=1).ravel(), done)
    return found


def save_trace(program: Program, path: str | Path) -> None:
    """Write the trace atomically."""
    content = {"displayTimeUnit": "ns", "traceEvents": trace_events(program)}
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")


def _names(program: Program) -> Iterator[Event]:
    title = f"{program.graph.name} on {program.target.name}, {program.schedule} (modelled)"
    yield {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}}
    for index, track in enumerate(_TRACKS):
        yield {"ph": "M", "pid": 1, "tid": index, "name": "thread_name", "args": {"name": track}}
        yield {"ph": "M", "pid": 1, "tid": index, "name": "thread_sort_index", "args": {"sort_index": index}}


def _instructions(segment: Segment, times: Times, now: float) -> Iterator[Event]:
    starts, lengths = (now + times.start / _NS_PER_US).tolist(), (times.duration / _NS_PER_US).tolist()
    for index, (one, owner) in enumerate(zip(segment.instructions, segment.owners, strict=True)):
        about: Event = {"position": index, "layer": segment.layers[owner].name, **one.numbers}
        about |= {"depends_on": " ".join(one.depends_on), "depended_by": " ".join(one.depended_by)}
        yield _slice(one.name, one.engine, starts[index], lengths[index], about)


def _traffic(segment: Segment, times: Times, now: float) -> Iterator[Event]:
    """Mean GB/s of what is loaded and saved in each of equal spans."""
    moved, engines = work_of(segment.instructions).bytes, [one.engine for one in segment.instructions]
    edges = np.linspace(0, times.total, max(2, math.ceil(times.total / TRAFFIC_NS) + 1))
    rates = {}
    for engine in ("LOAD", "SAVE"):
        mine = np.array([one == engine for one in engines]) & (moved > 0)
        done = _sums(edges, times.start[mine], times.end[mine], moved[mine])
        rates[f"{engine} GB/s"] = [*(np.diff(done) / max(edges[1], 1e-9)).round(4).tolist(), 0.0]
    for index, edge in enumerate(edges.tolist()):
        values = {name: rate[index] for name, rate in rates.items()}
        yield {"ph": "C", "pid": 1, "name": "DRAM", "ts": now + edge / _NS_PER_US, "args": values}


def _layers(rows: Sequence[LayerCost], track: str, now: float) -> Iterator[Event]:
    for row in rows:
        about = {"op": row.op, "macs": row.macs, "bound_by": row.bound_by, "array_use": row.array_use}
        yield _slice(row.name, track, now, row.ms * _US_PER_MS, about)
        now += row.ms * _US_PER_MS


def _slice(name: str, track: str, start: float, length: float, about: Event) -> Event:
    index = _TRACKS.index(track)
    return {"ph": "X", "pid": 1, "tid": index, "name": name, "ts": start, "dur": length, "args": about}
