"""NVIDIA GPUs: their own energy counters where they have them, else their power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.meters.base import How, Kind, Rail, pick

_MILLI = 1e-3
HINT = "pip install nvidia-ml-py, on a machine with NVIDIA's driver"


class NvmlMeter:
    """Joules so far of each GPU (from Volta on), or watts where one of them counts none; `rails` keeps these only.

    ToolError where there is no driver, no GPU, or no pynvml.
    """

    name = "nvml"
    how: How = "measured"
    provenance = "measured by the GPUs themselves: their boards, not the computer around them"

    def __init__(self, rails: Sequence[str] = ()) -> None:
        nvml = _library()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        if not handles:
            raise ToolError("there is no GPU to read", hint=HINT)
        found = [(Rail(f"gpu{index}", _name(nvml, handle)), handle) for index, handle in enumerate(handles)]
        chosen = pick(found, rails, self.name)
        self.rails = tuple(rail for rail, _ in chosen)
        self._handles = [handle for _, handle in chosen]
        counts = all(_counts(nvml, handle) for handle in self._handles)
        self.kind: Kind = "joules" if counts else "watts"
        self._read = nvml.nvmlDeviceGetTotalEnergyConsumption if counts else nvml.nvmlDeviceGetPowerUsage
        self.interval = 0.1  # the driver takes a new value about so often

    def read(self) -> list[float]:
        """Joules since the driver was loaded, or watts, of each GPU."""
        return [self._read(handle) * _MILLI for handle in self._handles]


def _library() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise ToolError("GPUs cannot be read", why=str(error), hint=HINT) from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise ToolError("GPUs cannot be read", why=str(error), hint=HINT) from None
    return pynvml


def _counts(nvml: Any, handle: Any) -> bool:
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:
        return False
    return True


def _name(nvml: Any, handle: Any) -> str:
    name = nvml.nvmlDeviceGetName(handle)
    return name.decode() if isinstance(name, bytes) else str(name)
