"""power: what the meters of this machine read, and a trace of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.meters import available_meters, measure, open_meter
from lowwatt.meters.trace import save_trace

if TYPE_CHECKING:
    from lowwatt.meters import Meter, MeterStatus, Recording


def read_power(name: str, rails: Sequence[str], seconds: float, record: Path | None) -> list[dict[str, Any]]:
    """Rows {meter, usable, why, how} of every meter, those that measure here with the readings of `Recording.to_json`.

    `name` (empty: all) takes one alone, of `rails` alone where some are named. `seconds` is how long to look; 0: until
    Ctrl-C. `record` is a CSV file to write the power to, of the meter `name`, or of the first that measures.
    """
    if rails and not name:
        raise ToolError("rails belong to a meter", hint=f"--meter NAME --rail {rails[0]}")
    if not name and record is not None:
        name = "auto"
    known = [] if name else available_meters()
    opened = [open_meter(name, **({"rails": rails} if rails else {}))] if name else _usable(known)
    recordings = _watch(opened, seconds)
    if record is not None:
        save_trace(recordings[0], record)
    rows = [{"meter": r.meter, "usable": True, "why": r.provenance, "how": "", **r.to_json()} for r in recordings]
    absent = [status for status in known if not status.usable]
    return [*rows, *({"meter": s.name, "usable": False, "why": s.why, "how": s.how_to_get} for s in absent)]


def _usable(known: Sequence[MeterStatus]) -> list[Meter]:
    """Meters that measure this machine; models and traces say nothing of it."""
    return [open_meter(status.name) for status in known if status.usable and status.rails]


def _watch(meters: Sequence[Meter], seconds: float) -> list[Recording]:
    """What all of them read in the same time."""
    if not meters:
        return []
    with ExitStack() as stack:
        recordings = [stack.enter_context(measure(meter)) for meter in meters]
        with suppress(KeyboardInterrupt):
            threading.Event().wait(seconds or None)
    return recordings
