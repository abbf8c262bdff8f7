"""Energy counters of Intel's and AMD's processors (RAPL), through the kernel's powercap folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.meters.base import How, Kind, Rail, pick
from lowwatt.meters.sysfs import Number, word

_MICRO = 1e-6
_FEEDS = {
    "psys": "the whole platform, as far as its maker wired it",
    "package": "a processor with its caches and memory controller",
    "core": "the processor's cores",
    "uncore": "the processor's graphics",
    "dram": "memory modules",
}
_BESIDE = ("dram",)
"""Zones below a package whose energy is not part of the package's."""


class RaplMeter:
    """Joules so far of each zone (package-0, package-0/core, package-0/dram, psys …); AMD's have the same names.

    `root` stands for /sys; `rails` keeps these only. Counters begin anew at max_energy_range_uj, which is unwound here,
    given a read before each second time. ToolError where the processor has no counters, or no right to read them:
    since 2020 the kernel gives it to root alone (CVE-2020-8694).
    """

    name = "rapl"
    kind: Kind = "joules"
    how: How = "measured"
    interval = 0.1
    provenance = "measured by the processor's own energy counters: this computer, not a board"

    def __init__(self, rails: Sequence[str] = (), root: str | Path = "/sys") -> None:
        try:
            found = [(rail, _Counter(folder)) for folder, rail in _zones(Path(root))]
        except PermissionError as error:
            hint = f"run as root, or until the next start: sudo chmod a+r {root}/class/powercap/intel-rapl*/energy_uj"
            raise ToolError("the energy counters may not be read", where=str(error.filename), hint=hint) from None
        if not found:
            why = f"no intel-rapl folder in {root}/class/powercap: another processor, or a virtual machine"
            raise ToolError("there is no energy counter to read", why=why, hint="use another meter")
        chosen = pick(found, rails, self.name)
        self.rails = tuple(rail for rail, _ in chosen)
        self._counters = [counter for _, counter in chosen]

    def read(self) -> list[float]:
        """Joules of each zone since it was first read."""
        return [counter.read() for counter in self._counters]


class _Counter:
    """Joules of a zone since its first read, however often its counter began anew."""

    def __init__(self, folder: Path) -> None:
        self._now = Number(folder / "energy_uj")
        self._range = int(word(folder / "max_energy_range_uj") or 0)
        self._last = self._now.read()
        self._sum = 0

    def read(self) -> float:
        """OSError where the counter went back and nobody knows how far it counts."""
        now, last = self._now.read(), self._last
        self._last = now
        if now < last and not self._range:
            raise OSError(f"the counter {self._now.path} went back, and its range is not known")
        self._sum += now - last + (self._range if now < last else 0)
        return self._sum * _MICRO


def _zones(root: Path) -> Iterator[tuple[Path, Rail]]:
    """Zones and the rails that they are. The same zones through MMIO (intel-rapl-mmio) are left out."""
    folders = sorted((root / "class/powercap").glob("intel-rapl:*"))
    names = {folder.name: word(folder / "name") for folder in folders}
    whole = tuple(name for name in names.values() if name == "psys")
    for folder in folders:
        name, above = names[folder.name], names.get(folder.name.rpartition(":")[0])
        feeds = _FEEDS.get(name.partition("-")[0], "")
        if above is not None:
            within = whole if name in _BESIDE else (above, *whole)
            yield folder, Rail(f"{above}/{name}", feeds, within)
        elif (folder / "energy_uj").exists():
            yield folder, Rail(name, feeds, () if name in whole else whole)
