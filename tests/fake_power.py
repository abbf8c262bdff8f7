"""Folders as the kernel shows supplies and energy counters in, and a thread that changes their numbers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

WIDTH = 20


def put(path: Path, value: int | str) -> None:
    """Write in one go and in place, as the kernel's files never are empty."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.pwrite(handle, f"{value!s:<{WIDTH}}\n".encode(), 0)
    os.close(handle)


def chip(root: Path, number: int, name: str, device: str = "", **files: int | str) -> Path:
    """A hwmon folder; `device` is where its link goes (6-0043: bus 6, address 0x43)."""
    folder = root / f"class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    if device:
        (root / "devices" / device).mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(root / "devices" / device)
    for file, value in files.items():
        put(folder / file, value)
    return folder


def ultra96(root: Path, watts: float = 1.0) -> Path:
    """An Ultra96-V2 whose rails take 1, 2, 3 … times `watts` (INT: 4, PSINT_FP: 4), and 50 times at 5V."""
    micro = round(1e6 * watts)
    for number, device in ((0, "6-0043"), (1, "6-0044")):
        outputs = {f"power{k + 1}_input": k * micro for k in range(1, 6)}
        labels = {f"power{k + 1}_label": f"pout{k}" for k in range(1, 6)}
        chip(root, number, "irps5401", device, power1_input=99 * micro, power1_label="pin1", **outputs, **labels)
    chip(root, 2, "ir38060", "6-0045", power1_input=50 * micro, power1_label="pout1")
    chip(root, 3, "nvme", "nvme0", power1_input=7 * micro)
    return root


def zone(root: Path, name: str, called: str, energy: int, range_uj: int = 1_000_000) -> Path:
    """A powercap folder; a range of 0 leaves its file out."""
    folder = root / "class/powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{called}\n")
    put(folder / "energy_uj", energy)
    if range_uj:
        put(folder / "max_energy_range_uj", range_uj)
    return folder


class Driver(threading.Thread):
    """Puts value(seconds since its start) into a file, every millisecond, until the block ends."""

    def __init__(self, path: Path, value: Callable[[float], float]) -> None:
        super().__init__(daemon=True)
        self._path, self._value, self._done = path, value, threading.Event()

    def __enter__(self) -> Driver:
        self.began = time.monotonic()
        put(self._path, round(self._value(0.0)))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(0.001):
            put(self._path, round(self._value(time.monotonic() - self.began)))
