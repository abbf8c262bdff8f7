"""What a name, a fingerprint or a file tells of a machine, and the Target that it makes with a known board's rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log2

from lowwatt.targets.boards import board, core_of, target_names
from lowwatt.targets.core import Core
from lowwatt.targets.fingerprint import fingerprint
from lowwatt.targets.names import core_name, named_cores
from lowwatt.targets.target import Dram, Target

_SAME_CLOCK, _SAME_DRAM = 0.005, 0.02
"""Relative differences that are rounding: a clock synthesiser gives 149.9985 MHz where 150 was asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """A core and, where they are told, its clock and memory; `said` is who says so, `board` the chip."""

    core: Core
    name: str
    said: str
    clock_mhz: float | None = None
    dram: Dram | None = None
    board: str = ""


def named(text: str, by: str) -> Found:
    """The core of a name or a fingerprint, told by somebody.

    >>> named("0x1000020f2014405", "as named").core.array.name
    'B2304'
    """
    core = core_of(text)
    return Found(core, core_name(core), f"core {by}{_older(text, core)}")


def _older(text: str, core: Core) -> str:
    """The trap in a name that changed its meaning between two versions of the vendor's tools."""
    if core.isa == 0 or text not in named_cores():
        return ""
    older = replace(core, options=replace(core.options, save_argmax=False))
    return f" (that of Vitis AI 3.x; 2.5 called {fingerprint(older):#x} so)"


def complete(found: Found, on: Target | None = None) -> Target:
    """Target with the rest of the board `on`, else of the nearest known one; where all agrees, the known one itself."""
    if on:
        named_on = replace(found, name=f"{found.name}@{on.name}", board=found.board or on.board)
        return _with_rest(named_on, on, "as asked for")
    return _known(found) or _with_rest(found, nearest(found), "the nearest known board")


def _with_rest(found: Found, near: Target, why: str) -> Target:
    lent = f"{near.name}'s, {why}"
    took = ["costs", *(["clock"] if found.clock_mhz is None else []), *(["memory"] if found.dram is None else [])]
    clock = found.clock_mhz or near.clock_mhz
    return replace(
        near,
        name=found.name,
        description=f"{found.core.array.name} at {clock:g} MHz, {found.said}",
        board=found.board or f"unknown; taken as {near.board}",
        array=found.core.array,
        isa=found.core.isa,
        image_groups=found.core.image_groups,
        options=found.core.options,
        clock_mhz=clock,
        dram=found.dram or replace(near.dram, provenance=f"{lent}: {near.dram.provenance}"),
        provenance=f"{found.said}; {_listed(took)} are {lent}; this machine was not measured",
        costs=replace(near.costs, provenance=f"{lent}: {near.costs.provenance}"),
        host=replace(near.host, provenance=f"{lent}: {near.host.provenance}"),
        energy=replace(near.energy, provenance=f"{lent}: {near.energy.provenance}"),
    )


def nearest(found: Found) -> Target:
    """The known board whose memory, then array, instruction set and options come nearest; of equals the first."""
    return min(map(board, target_names()), key=lambda known: (*_distance(found, known), known.name))


def _distance(found: Found, known: Target) -> tuple[float, ...]:
    macs = abs(log2(found.core.array.macs_per_cycle / known.array.macs_per_cycle))
    other = (found.core.isa != known.isa, found.core != known.core, abs(found.core.image_groups - known.image_groups))
    return (_memory_distance(found.dram, known.dram), macs, *other)


def _memory_distance(told: Dram | None, known: Dram) -> float:
    if told is None or told.peak_gb_s is None:
        return 0.0
    return inf if known.peak_gb_s is None else round(abs(log2(told.peak_gb_s / known.peak_gb_s)), 1)


def _known(found: Found) -> Target | None:
    return next((known for known in map(board, target_names()) if _is(found, known)), None)


def _is(found: Found, known: Target) -> bool:
    """Core, clock and memory are all told and all those of the known board."""
    told, peak = found.dram and found.dram.peak_gb_s, known.dram.peak_gb_s
    if not (found.clock_mhz and told and peak and fingerprint(found.core) == known.fingerprint):
        return False
    return abs(found.clock_mhz / known.clock_mhz - 1) < _SAME_CLOCK and abs(told / peak - 1) < _SAME_DRAM


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
