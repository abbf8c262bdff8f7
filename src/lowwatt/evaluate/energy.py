"""Energy of a frame by what somebody assumes that an operation costs; nothing of it is measured or fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lowwatt.compiler import Program

_MJ_PER_PJ = 1e-9


@dataclass(frozen=True, slots=True)
class AssumedEnergyOfFrame:
    """Millijoules a frame of multiply-accumulates and of bytes that go to or from DRAM, and the assumptions."""

    mac_mj: float
    dram_mj: float
    assumptions: str

    @property
    def mj(self) -> float:
        """Both."""
        return self.mac_mj + self.dram_mj


def assumed_energy(program: Program) -> AssumedEnergyOfFrame | None:
    """Work and traffic of the accelerator times the target's `energy.assumed`; None where it assumes nothing."""
    assumed = program.target.energy.assumed
    if assumed is None:
        return None
    rows = [row for row in program.layers if row.where == "dpu"]
    macs, moved = sum(row.macs for row in rows), sum(row.load_bytes + row.save_bytes for row in rows)
    words = f"assumed, not measured: {assumed.pj_per_mac:g} pJ a MAC, {assumed.pj_per_dram_byte:g} pJ a DRAM byte"
    if assumed.provenance:
        words += f" ({assumed.provenance})"
    return AssumedEnergyOfFrame(
        macs * assumed.pj_per_mac * _MJ_PER_PJ, moved * assumed.pj_per_dram_byte * _MJ_PER_PJ, words
    )


def energy_lines(program: Program) -> Iterator[str]:
    """For the terminal: a line where the target assumes something."""
    found = assumed_energy(program)
    if found is not None:
        parts = f"MACs {found.mac_mj:.3g} + DRAM {found.dram_mj:.3g}"
        yield f"energy a frame {found.mj:.3g} mJ: {parts} ({found.assumptions})"
