"""Power meters: one short file each; `open_meter` opens one, `measure` reads it while something runs.

with measure(open_meter("rapl")) as energy:
    work()
print(energy.total, "J")
"""

from __future__ import annotations

import importlib
from typing import Any

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.meters.base import Computed, Meter, MeterStatus, Rail
from lowwatt.meters.recording import Gap, Recording
from lowwatt.meters.sampler import measure

__all__ = ["Computed", "Gap", "Meter", "MeterStatus", "Rail", "Recording"]
__all__ += ["available_meters", "measure", "meter_names", "open_meter"]

MEASURED = ("pmbus", "rapl", "nvml")
"""Meters of this machine, in the order in which `auto` tries them."""

_METERS = {
    "pmbus": ("lowwatt.meters.pmbus", "PmbusMeter"),
    "rapl": ("lowwatt.meters.rapl", "RaplMeter"),
    "nvml": ("lowwatt.meters.nvml", "NvmlMeter"),
    "modelled": ("lowwatt.meters.modelled", "ModelledMeter"),
    "trace": ("lowwatt.meters.trace", "TraceMeter"),
}


def meter_names() -> tuple[str, ...]:
    """Names that `open_meter` takes, but for auto."""
    return tuple(_METERS)


def open_meter(name: str, **options: Any) -> Meter:
    """Open a meter: pmbus, rapl, nvml, modelled, trace:FILE, or auto, the first that measures this machine.

    `options` go to the meter (pmbus, rapl: rails, root; nvml: rails; modelled: target; trace: rails). ToolError for an
    unknown name, and where the meter cannot be used here, with what to do.

    >>> open_meter("rappl")
    Traceback (most recent call last):
    lowwatt.errors.ToolError: unknown meter rappl
    <BLANKLINE>
    hint: did you mean "rapl"?
    """
    if name == "auto":
        return _first(options)
    name, _, file = name.partition(":")
    if name not in _METERS:
        raise ToolError(f"unknown meter {name}", hint=did_you_mean(name, ("auto", *_METERS)))
    if bool(file) != (name == "trace"):
        hint = "trace:FILE, a file of `lowwatt power --record`" if name == "trace" else f"--meter {name}"
        raise ToolError("only a trace has a file, and it needs one", hint=hint)
    module, kind = _METERS[name]
    meter: Meter = getattr(importlib.import_module(module), kind)(*([file] if file else []), **options)
    return meter


def available_meters() -> list[MeterStatus]:
    """Every meter, with whether it can be used on this machine."""
    return [*(_status(name) for name in MEASURED), *_ALWAYS]


_ALWAYS = (
    MeterStatus("modelled", True, "a target's watts x time + joules an image"),
    MeterStatus("trace", True, "a CSV file, trace:FILE"),
)


def _status(name: str) -> MeterStatus:
    try:
        meter = open_meter(name)
    except ToolError as error:
        return MeterStatus(name, False, ": ".join(filter(None, (error.what, error.why))), error.hint)
    return MeterStatus(name, True, ", ".join(rail.name for rail in meter.rails), rails=meter.rails)


def _first(options: dict[str, Any]) -> Meter:
    reasons = []
    for name in MEASURED:
        try:
            return open_meter(name, **options)
        except ToolError as error:
            reasons.append(f"{name}: {error.what}")
    raise ToolError("nothing measures this machine's power", why="; ".join(reasons), hint="`lowwatt doctor` says more")
