"""Details: what is worked out of a program for those who look at it, a layer at a time and in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from lowwatt.compiler.clock import Work, run, work_of
from lowwatt.compiler.costs import LayerCost
from lowwatt.compiler.footprint import Footprint, footprints
from lowwatt.compiler.idle import WAITS, idle_parts
from lowwatt.compiler.isa import ENGINES
from lowwatt.compiler.losses import Loss, losses
from lowwatt.compiler.program import Program
from lowwatt.compiler.segment import Segment
from lowwatt.targets import Target

ENGINE_NAMES = ("conv", "load", "misc", "save")
_CONV = ENGINES.index("CONV")
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class LayerDetail:
    """Beside a layer's costs: its share of the frame's time, `waits`, the shares of its own time in which the array
    stands still by whom it waits for (`between`: for the layer's first rows, or the last ones to be saved), what it
    touches, and what keeps the array from its peak, the costliest first. A node of the host has its share alone.
    """

    share: float
    waits: Mapping[str, float]
    footprint: Footprint | None
    losses: Sequence[Loss]

    @property
    def why(self) -> str:
        """The losses as words, each with what it costs."""
        return ", ".join(f"{loss.text} {loss.share:.0%}" if loss.share else loss.text for loss in self.losses)


@dataclass(frozen=True, slots=True)
class Totals:
    """The accelerator's part of a frame: `busy`, share of `ms` in which each engine works; `array_use`, share of the
    peak over `ms`, and `array_use_working` while the array multiplies; `waits`, milliseconds in which the array stands
    still, by whom it waits for; `gops`, what it does of `peak_gops`. An operation is half a multiply-accumulate;
    `ops_per_byte` counts the bytes loaded and saved. `image_banks`, `weight_banks`: the most that a layer touches.
    """

    layers: int
    instructions: int
    ms: float
    macs: int
    load_bytes: int
    save_bytes: int
    constant_bytes: int
    busy: Mapping[str, float]
    waits: Mapping[str, float]
    array_use: float
    array_use_working: float
    gops: float
    peak_gops: float
    ops_per_byte: float
    image_banks: float
    weight_banks: float


def parts(program: Program) -> Iterator[tuple[Segment, list[LayerCost]]]:
    """Each segment with its rows, in order of execution."""
    rows = iter(program.layers)
    for segment in program.segments:
        yield segment, [next(rows) for _ in (segment.layers if segment.side == "dpu" else segment.graph.nodes)]


def details(program: Program) -> list[LayerDetail]:
    """One for each row of the program's layers."""
    frame = program.latency_ms
    found: list[LayerDetail] = []
    for segment, rows in parts(program):
        if segment.side == "dpu":
            found.extend(_accelerator(segment, rows, program, frame))
        else:
            found.extend(LayerDetail(row.ms / frame, {}, None, ()) for row in rows)
    return found


def _accelerator(segment: Segment, rows: Sequence[LayerCost], program: Program, frame: float) -> Iterator[LayerDetail]:
    target, work = program.target, work_of(segment.instructions)
    touched, waits = footprints(segment, target), _waits(segment, rows, work, target)
    working = [float(work.cycles[part][work.engines[part] == _CONV].sum()) for part in segment.positions()]
    for row, footprint, waited, cycles in zip(rows, touched, waits, working, strict=True):
        share = cycles / row.cycles["conv"] if row.cycles["conv"] else 0.0
        found = losses(row, segment.graph, target, footprint, waited, share)
        yield LayerDetail(row.ms / frame, waited, footprint, found)


def _waits(segment: Segment, rows: Sequence[LayerCost], work: Work, target: Target) -> list[dict[str, float]]:
    """Shares of each layer's time."""
    times = run(work, target.costs, target.cycle_ns)
    ends = np.array([0.0, *accumulate(row.ms * _NS_PER_MS for row in rows)])
    idle = idle_parts(segment.owners, work, times, ends)
    spans = [row.ms * _NS_PER_MS or 1.0 for row in rows]
    return [{whom: ns / span for whom, ns in part.items()} for part, span in zip(idle, spans, strict=True)]


def totals(program: Program, found: Sequence[LayerDetail]) -> Totals:
    """What the accelerator's layers add up to; `found` are the program's details."""
    rows = [row for row in program.layers if row.where == "dpu"]
    touched = [detail.footprint for detail in found if detail.footprint is not None]
    ran, target = program.dpu_ms * _NS_PER_MS / program.target.cycle_ns or 1.0, program.target
    cycles = {name: sum(row.cycles[name] for row in rows) for name in ENGINE_NAMES}
    macs, loaded, saved = (sum(getattr(row, name) for row in rows) for name in ("macs", "load_bytes", "save_bytes"))
    used = sum(row.ms * row.utilisation for row in rows)
    worked = sum(row.ms * row.utilisation / row.array_use for row in rows if row.array_use)
    return Totals(
        len(rows),
        sum(len(segment.instructions) for segment in program.segments),
        program.dpu_ms,
        macs,
        loaded,
        saved,
        sum(one.constant_bytes for one in touched),
        {name: count / ran for name, count in cycles.items()},
        _waits_ms(program, found),
        used / (program.dpu_ms or 1.0),
        used / worked if worked else 0.0,
        target.peak_gops * used / (program.dpu_ms or 1.0),
        target.peak_gops,
        2 * macs / max(1, loaded + saved),
        max((one.image_banks for one in touched), default=0.0),
        max((one.weight_banks for one in touched), default=0.0),
    )


def _waits_ms(program: Program, found: Sequence[LayerDetail]) -> dict[str, float]:
    both = list(zip(program.layers, found, strict=True))
    return {whom: sum((row.ms * more.waits.get(whom, 0.0) for row, more in both), 0.0) for whom in WAITS}


def detailed_json(program: Program) -> dict[str, Any]:
    """The program's json with everything that is worked out of it, beside each layer and as `totals`."""
    found, known = details(program), program.to_json()
    for row, detail in zip(known["layers"], found, strict=True):
        row |= {**asdict(detail), "why": detail.why}
    return {**known, "totals": asdict(totals(program, found))}
