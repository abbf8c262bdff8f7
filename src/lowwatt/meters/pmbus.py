"""Supplies that measure themselves (PMBus regulators, INA2xx), through the kernel's hwmon; no PYNQ is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.meters.base import How, Kind, Rail, pick
from lowwatt.meters.board_rails import BOARDS, Board
from lowwatt.meters.sysfs import Number, word

_MICRO = 1e-6
_I2C = re.compile(r"\d+-([0-9a-f]{4})")
Read = Callable[[], float]


class PmbusMeter:
    """Watts of the board's rails, by the names that its PYNQ image gives them where the board is known.

    `root` stands for /sys; `rails` keeps these only. power*_input is in microwatts; where a chip gives none, volts
    times amperes (in*_input in mV, curr*_input in mA; docs.kernel.org/hwmon/sysfs-interface). ToolError where there is
    no such chip, or no right to read it.
    """

    name = "pmbus"
    kind: Kind = "watts"
    how: How = "measured"
    interval = 0.05

    def __init__(self, rails: Sequence[str] = (), root: str | Path = "/sys") -> None:
        chips = list(_chips(Path(root)))
        board = next((board for board in BOARDS if _is_board(board, chips)), None)
        try:
            found = [pair for chip in chips for pair in _rails(chip, board)]
        except PermissionError as error:
            hint = f"run as root, or sudo chmod a+r {error.filename}"
            raise ToolError("the rails may not be read", where=str(error.filename), hint=hint) from None
        if not found:
            why = f"no chip below {root}/class/hwmon measures a supply"
            raise ToolError("there is no power rail to read", why=why, hint=HINT)
        chosen = pick(found, rails, self.name)
        self.rails = tuple(rail for rail, _ in chosen)
        self._reads = [read for _, read in chosen]
        self.provenance = f"measured by the supplies of {board.name}" if board else UNKNOWN

    def read(self) -> list[float]:
        """Watts of each rail."""
        return [read() for read in self._reads]


HINT = "on a board, load the chips' kernel drivers (`sensors` lists them); elsewhere use another meter"
UNKNOWN = "measured by the supplies of a board that lowwatt does not know: name a rail, for some may feed others"


@dataclass(frozen=True, slots=True)
class _Chip:
    folder: Path
    name: str
    device: str
    address: int | None


def _chips(root: Path) -> Iterator[_Chip]:
    """Chips on an I2C bus, and INA2xx ones that the kernel reads in another way (iio-hwmon)."""
    folders = (root / "class/hwmon").glob("hwmon*")
    for folder in sorted(folders, key=lambda path: (len(path.name), path.name)):
        device, name = (folder / "device").resolve().name, word(folder / "name")
        on_bus = _I2C.fullmatch(device)
        if on_bus or name.startswith("ina"):
            yield _Chip(folder, name, device if on_bus else "", int(on_bus[1], 16) if on_bus else None)


def _is_board(board: Board, chips: Sequence[_Chip]) -> bool:
    known = {(chip.name, chip.address) for chip in chips} | {(chip.name, None) for chip in chips}
    return known.issuperset(board.chips)


def _rails(chip: _Chip, board: Board | None) -> list[tuple[Rail, Read]]:
    """What a chip measures: the board's own rails, or every output under the chip's label."""
    found = _powers(chip.folder) or _products(chip.folder)
    table = {} if board is None else board.chips.get((chip.name, chip.address), board.chips.get((chip.name, None), {}))
    if table:
        return [(table[label], read) for label, read in found.items() if label in table]
    outputs = {label: read for label, read in found.items() if not label.startswith("pin")} or found
    return [(Rail(" ".join(filter(None, (chip.name, chip.device, label)))), read) for label, read in outputs.items()]


def _powers(folder: Path) -> dict[str, Read]:
    """Reads of power*_input by label (pout1, …; power1 where the chip has none)."""
    return {_label(path): _watts(Number(path)) for path in _inputs(folder, "power")}


def _products(folder: Path) -> dict[str, Read]:
    """Reads of volts times amperes, under the label that the power would have."""
    volts = {_label(path).removeprefix("v"): path for path in _inputs(folder, "in")}
    found = {}
    for path in _inputs(folder, "curr"):
        label = _label(path).removeprefix("i")
        other = volts.get(label, volts.get(label.replace("curr", "in")))
        if other is not None:
            name = label.replace("curr", "power") if "curr" in label else f"p{label}"
            found[name] = _product(Number(other), Number(path))
    return found


def _inputs(folder: Path, quantity: str) -> list[Path]:
    paths = [path for path in folder.glob(f"{quantity}*_input") if path.name[len(quantity) : -6].isdecimal()]
    return sorted(paths, key=lambda path: int(path.name[len(quantity) : -6]))


def _label(path: Path) -> str:
    stem = path.name.removesuffix("_input")
    return word(path.with_name(f"{stem}_label")) or stem


def _watts(power: Number) -> Read:
    return lambda: power.read() * _MICRO


def _product(millivolts: Number, milliamperes: Number) -> Read:
    return lambda: millivolts.read() * milliamperes.read() * _MICRO
