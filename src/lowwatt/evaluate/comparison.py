"""What changed between two reports, or two programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowwatt.evaluate.report import Better, LayerRow, Report

if TYPE_CHECKING:
    from lowwatt.compiler import Program


@dataclass(frozen=True, slots=True)
class Change:
    """One number before and after; None where one of the reports lacks it."""

    name: str
    unit: str
    before: float | None
    after: float | None
    better: Better = ""

    @property
    def delta(self) -> float | None:
        """after - before."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def relative(self) -> float | None:
        """Share of the value before, None where that is zero or unknown."""
        return self.delta / abs(self.before) if self.delta is not None and self.before else None

    @property
    def improved(self) -> bool | None:
        """Whether the change is for the better; None where nothing changed or neither direction is better."""
        if not self.delta or not self.better:
            return None
        return (self.delta > 0) == (self.better == "higher")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports or programs side by side: `totals` are accuracy and figures, `layers` those that changed.

    Layers come with ms first, then dB, each with the largest change first.
    """

    before: str
    after: str
    totals: list[Change]
    layers: list[Change]


def compare_reports(before: Report, after: Report) -> Comparison:
    """Match stages, figures and layers by name; the order is that of `after`, names gone since come last.

    >>> from lowwatt.evaluate.report import Figure
    >>> quick, slow = (Figure("latency", ms, "ms", "modelled", "", "lower") for ms in (15, 20))
    >>> old, new = Report(title="old", figures=[slow]), Report(title="new", figures=[quick])
    >>> compare_reports(old, new).totals[0].improved
    True
    """
    changed = [change for change in _layers(before, after) if change.delta != 0]
    changed.sort(key=lambda change: (change.unit != "ms", -abs(change.delta or 0)))
    return Comparison(before.title, after.title, _stages(before, after) + _figures(before, after), changed)


def compare_programs(before: Program, after: Program) -> Comparison:
    """Match figures and layers by name; layers come with the largest change of their time first.

    >>> from lowwatt.compiler import compile
    >>> from lowwatt.ir.graph import Graph
    >>> g = Graph("tiny")
    >>> g.outputs = [g.add("max_pool", [g.add_input("x", (1, 8, 8, 12))], "y", kernel=(2, 2), stride=(2, 2))]
    >>> compare_programs(compile(g), compile(g)).layers
    []
    """
    old, new = ({row.name: row.ms for row in program.layers} for program in (before, after))
    changed = [Change(name, "ms", old.get(name), new.get(name), "lower") for name in {**new, **old}]
    changed = sorted((one for one in changed if one.delta != 0), key=lambda one: -abs(one.delta or 0))
    totals = [
        Change(name, unit, was, now, better)
        for (name, unit, was, better), (*_, now, _) in zip(_totals(before), _totals(after), strict=True)
    ]
    return Comparison(_program_title(before), _program_title(after), totals, changed)


def _program_title(program: Program) -> str:
    return f"{program.graph.name} on {program.target.name}, {program.schedule}"


def _totals(program: Program) -> Iterator[tuple[str, str, float, Better]]:
    from lowwatt.compiler.details import details, totals
    from lowwatt.compiler.idle import WAITS

    sums = totals(program, details(program))
    yield "a frame", "ms", program.latency_ms, "lower"
    yield "DPU", "ms", program.dpu_ms, "lower"
    yield "host", "ms", program.host_ms, "lower"
    yield "frames a second", "fps", program.fps, "higher"
    yield "array of its peak", "%", 100 * sums.array_use, "higher"
    for name, share in sums.busy.items():
        yield f"{name.upper()} busy", "ms", share * sums.ms, "lower"
    for name, ms in sums.waits.items():
        yield f"array waits {WAITS[name]}", "ms", ms, "lower"
    yield "loaded", "B", sums.load_bytes, "lower"
    yield "saved", "B", sums.save_bytes, "lower"
    yield "instructions", "", sums.instructions, ""


def _stages(before: Report, after: Report) -> list[Change]:
    """Of two tasks nothing is comparable: each has its rows."""
    old, new = ({f"{r.measures[0]} {stage.stage}": stage.ap for stage in r.stages} for r in (before, after))
    return [Change(name, "", old.get(name), new.get(name), "higher") for name in {**new, **old}]


def _figures(before: Report, after: Report) -> list[Change]:
    """A figure whose unit differs between the reports is not comparable: it becomes two rows."""
    old, new = ({(figure.name, figure.unit): figure for figure in report.figures} for report in (before, after))
    changes = []
    for key, figure in {**new, **{key: old[key] for key in old if key not in new}}.items():
        was, now = (side[key].value if key in side else None for side in (old, new))
        changes.append(Change(figure.name, figure.unit, was, now, figure.better))
    return changes


def _layers(before: Report, after: Report) -> list[Change]:
    old, new = ({layer.name: layer for layer in report.layers} for report in (before, after))
    return [
        change
        for name in {**new, **old}
        for change in (
            Change(name, "ms", _ms(old.get(name)), _ms(new.get(name)), "lower"),
            Change(name, "dB", _snr(old.get(name)), _snr(new.get(name)), "higher"),
        )
        if change.before is not None or change.after is not None
    ]


def _ms(layer: LayerRow | None) -> float | None:
    return layer.ms if layer else None


def _snr(layer: LayerRow | None) -> float | None:
    return layer.snr_db if layer else None
