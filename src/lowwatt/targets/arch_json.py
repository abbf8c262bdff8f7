"""arch.json, by which the vendor's compiler knows the core, and what `xdputil query` prints on a board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.targets.found import Found, named
from lowwatt.targets.text import read_text

_WHAT = "cannot read the core's description"
_FORMS = '{"fingerprint": "0x…"}, {"target": "DPUCZDX8G_…"}, or what `xdputil query` prints'


def text(fingerprint: int) -> str:
    """Content of the arch.json of a core.

    >>> text(0x101000056010407)
    '{"fingerprint": "0x101000056010407"}'
    """
    return json.dumps({"fingerprint": f"{fingerprint:#x}"})


def read(path: Path) -> Found:
    """Core of an arch.json; of xdputil's answer also the clock.

    ToolError for a damaged file, one of another form, and a core that is none of lowwatt's.
    """
    values = _parse(path)
    kernel = _kernel(values)
    name = kernel.get("fingerprint", kernel.get("target"))
    if not isinstance(name, str):
        why = "it describes a DNNDK core by a .dcf file" if "dcf" in values else "it names no core"
        hint = f"give the design's .hwh, or a file of the form {_FORMS}"
        raise ToolError(_WHAT, where=str(path), why=why, hint=hint)
    try:
        found = named(name, f"from {path.name}")
    except ToolError as error:
        raise ToolError(
            error.what, where=f"{path}: {error.where}".rstrip(": "), why=error.why, hint=error.hint
        ) from None
    return replace(found, clock_mhz=_clock(kernel, path))


def _parse(path: Path) -> dict[str, Any]:
    text = read_text(path, _WHAT)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ToolError(_WHAT, where=str(path), why=why, hint=f"known forms: {_FORMS}") from None
    if not isinstance(values, dict):
        raise ToolError(_WHAT, where=str(path), why="it is not a mapping", hint=f"known forms: {_FORMS}")
    return values


def _kernel(values: dict[str, Any]) -> dict[str, Any]:
    """The part that names the core: all of arch.json, the first DPU among xdputil's kernels."""
    kernels = values.get("kernels")
    found = [k for k in kernels if isinstance(k, dict) and "fingerprint" in k] if isinstance(kernels, list) else []
    return found[0] if found else values


def _clock(kernel: dict[str, Any], path: Path) -> float | None:
    clock = kernel.get("DPU Frequency (MHz)")
    if clock is None:
        return None
    if isinstance(clock, bool) or not isinstance(clock, (int, float)) or not 1 <= clock <= 2000:
        raise ToolError(_WHAT, where=f"{path}: DPU Frequency (MHz)", why=f"{str(clock)[:40]} is no clock")
    return float(clock)
