"""A power trace: a CSV file of time_s and a column of watts for each rail, written and played again."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_text
from lowwatt.meters.base import How, Kind, Rail, pick
from lowwatt.meters.recording import Recording

TIME = "time_s"
GAP = "the trace has no reading there"


def save_trace(recording: Recording, path: str | Path) -> None:
    """Write a recording, atomically. A row of empty cells stands for each gap.

    The first line is a comment, json of provenance and rails; a trace from elsewhere needs none.
    """
    times, watts = recording.power()
    rails = [{"name": r.name, "feeds": r.feeds, "within": r.within, "alias": r.alias} for r in recording.rails]
    rows: list[list[Any]] = [[moment, *values] for moment, values in zip(times.tolist(), watts.tolist(), strict=True)]
    rows += [[gap.start + gap.seconds / 2, *("" for _ in rails)] for gap in recording.gaps]
    text = io.StringIO()
    text.write(f"# {json.dumps({'provenance': recording.provenance, 'rails': rails})}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([TIME, *(rail.name for rail in recording.rails)])
    rows.sort(key=lambda row: row[0])
    writer.writerows(rows)
    write_text(path, text.getvalue())


class TraceMeter:
    """Watts of a recorded run. Its time 0 is the first row, and the first read where it is read live.

    `rails` keeps these columns only. Rails add up to the whole, but for what the first line says of them. ToolError for
    a file that is no trace: the header time_s,RAIL,…; times that do not fall; numbers, or empty cells in a gap.
    """

    name = "trace"
    kind: Kind = "watts"
    how: How = "replayed"
    interval = 0.05

    def __init__(self, path: str | Path, rails: Sequence[str] = ()) -> None:
        self._path = Path(path)
        about, header, rows = _read(self._path)
        columns = [(rail, column) for column, rail in enumerate(_rails(about, header), 1)]
        chosen = pick(columns, rails, self.name)
        self.rails = tuple(rail for rail, _ in chosen)
        self.provenance = f"replayed from {self._path.name}" + _said(about)
        self._recording = Recording(self.name, self.kind, self.how, self.rails, self.provenance)
        self._fill(rows, [column for _, column in chosen])
        self._began: float | None = None

    def read(self) -> list[float]:
        """Watts at the time since the first read. ToolError beyond the trace's end."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        elapsed = now - self._began
        if elapsed > self._recording.end:
            raise self._short(elapsed)
        return [float(np.interp(elapsed, self._recording.times, v)) for v in zip(*self._recording.values, strict=True)]

    def over(self, seconds: float, images: int) -> Recording:
        """Energy of the trace's first `seconds`. ToolError where it is shorter."""
        found = self._recording
        if seconds > found.end:
            raise self._short(seconds)
        return Recording(
            self.name, self.kind, self.how, self.rails, self.provenance, end=seconds, times=found.times,
            values=found.values, failures=found.failures,
        )  # fmt: skip

    def _short(self, seconds: float) -> ToolError:
        why = f"it has {self._recording.end:.3f} s, and {seconds:.3f} s are asked for"
        return ToolError("the power trace is too short", where=str(self._path), why=why)

    def _fill(self, rows: Sequence[Sequence[str]], columns: Sequence[int]) -> None:
        """The rows' numbers, with times from 0 on."""
        found = self._recording
        for row in rows:
            moment = self._number(row, 0)
            cells = [row[column].strip() for column in columns if column < len(row)]
            if not any(cells):
                found.failures.append((moment, GAP))
                continue
            found.times.append(moment)
            found.values.append(tuple(self._number(row, column) for column in columns))
        if len(found.times) < 2 or np.any(np.diff(found.times) < 0) or found.times[-1] == found.times[0]:
            raise _no_trace(self._path, "it needs two rows of numbers at least, in the order of their times")
        start = found.times[0]
        found.times[:] = [moment - start for moment in found.times]
        found.failures[:] = [(moment - start, why) for moment, why in found.failures]
        found.end = found.times[-1]

    def _number(self, row: Sequence[str], column: int) -> float:
        try:
            value = float(row[column])
        except (IndexError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise _no_trace(self._path, f"no number in column {column + 1} of the row {','.join(row)[:80]}")
        return value


def _read(path: Path) -> tuple[dict[str, Any], list[str], list[list[str]]]:
    """What the first line says, the header, and the rows."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ToolError("cannot read the power trace", where=str(path), why=str(error)) from None
    rows = [row for row in csv.reader(line for line in lines if not line.startswith("#")) if row]
    if not rows or rows[0][0].strip() != TIME or len(rows[0]) < 2:
        raise _no_trace(path, f"its first row is not {TIME},RAIL,…")
    return _about(lines[0]), [name.strip() for name in rows[0][1:]], rows[1:]


def _about(line: str) -> dict[str, Any]:
    """The comment that `save_trace` writes; nothing where there is another one, or none."""
    try:
        found = json.loads(line.removeprefix("#"))
    except ValueError:
        return {}
    return found if line.startswith("#") and isinstance(found, dict) else {}


def _rails(about: dict[str, Any], header: Sequence[str]) -> Iterator[Rail]:
    said = about.get("rails")
    known = {row.get("name"): row for row in said if isinstance(row, dict)} if isinstance(said, list) else {}
    for name in header:
        row = known.get(name, {})
        within = row.get("within")
        inside = tuple(map(str, within)) if isinstance(within, list) else ()
        yield Rail(name, str(row.get("feeds", "")), inside, str(row.get("alias", "")))


def _said(about: dict[str, Any]) -> str:
    return f", {about['provenance']}" if about.get("provenance") else ""


def _no_trace(path: Path, why: str) -> ToolError:
    return ToolError("this is no power trace", where=str(path), why=why, hint="lowwatt power --record FILE makes one")
