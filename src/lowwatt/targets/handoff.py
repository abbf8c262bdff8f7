"""Vivado's hardware hand-off file (.hwh): the core as it was built, its clock, and the board's memory.

The parameters' names are those of the DPUCZDX8G 3.3 to 4.1 IP; how 3.x turns them into a fingerprint is
Vitis-AI v2.0, dsa/DPU-TRD/dpu_ip/DPUCZDX8G_v3_4_0/ttcl/fingerprint_json.ttcl (docs/dpu.md 1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.targets.core import ARRAYS, Array, Core, Options, alu_options
from lowwatt.targets.found import Found
from lowwatt.targets.hwh_xml import Design, Module, read_design
from lowwatt.targets.names import core_name
from lowwatt.targets.target import Dram
from lowwatt.targets.text import number

_WHAT = "cannot read the hand-off file"
_ARCH = ("ARCH_PP", "ARCH_ICP", "ARCH_OCP", "ARCH_IMG_BKGRP")
_CLOCKS = {"aclk": 1, "m_axi_dpu_aclk": 1, "ap_clk_2": 2, "dpu_2x_clk": 2}
"""Clock ports of the kernel and of the IP, and how many times the core's clock they run at."""
_DEPTHS = ("RAM_DEPTH_IMG", "RAM_DEPTH_WGT", "RAM_DEPTH_BIAS")
_DDR = "PSU__DDRC__"
_DDR_CLOCK = "PSU__CRF_APB__DDR_CTRL__ACT_FREQMHZ"


def read(path: Path) -> Found:
    """Core, clock and memory of a hand-off file.

    ToolError for a file that is damaged, of another kind or without a DPUCZDX8G, and for a core unknown to lowwatt.
    """
    design = read_design(path, _WHAT)
    try:
        core, module, cores = _core(design)
        said = f"core, clock and memory from {path.name}" + (f", one of {cores} cores" if cores > 1 else "")
        return Found(core, path.name, said, _clock(module), _dram(design.modules), design.chip)
    except ToolError as error:
        raise ToolError(
            error.what, where=f"{path}: {error.where}".rstrip(": "), why=error.why, hint=error.hint
        ) from None


def _core(design: Design) -> tuple[Core, Module, int]:
    """The design's core, the module it is in, and how many of it there are."""
    modules = [module for module in design.modules if all(name in module.parameters for name in _ARCH)]
    if not modules:
        hint = "export the hand-off of the design that holds the DPU, or give its arch.json"
        raise ToolError(_WHAT, why="there is no DPUCZDX8G in the design", hint=hint)
    cores = [_Built(module).core() for module in modules]
    if any(core != cores[0] for core in cores):
        names = ", ".join(sorted({core_name(core) for core in cores}))
        raise ToolError(
            "the design has several kinds of core", why=names, hint="give the fingerprint of the one you mean"
        )
    return cores[0], modules[0], sum(_Built(module).number("VER_DPU_NUM", 1) for module in modules)


@dataclass(frozen=True)
class _Built:
    """A core's parameters as they were when it was built."""

    module: Module

    def core(self) -> Core:
        if self.number("VER_TARGET", 0x141) == 0x140:
            why = "it is a DPU 1.4.0, whose instruction words differ from all that lowwatt writes"
            raise ToolError("not a machine of lowwatt", where="VER_TARGET", why=why)
        for name in _DEPTHS:
            if self.number(name, 3) != 3:
                raise ToolError("not a machine of lowwatt", where=name, why="its banks do not have 2048 words")
        groups = self.number("ARCH_IMG_BKGRP")
        if groups not in (2, 3):
            raise ToolError("not a machine of lowwatt", where="ARCH_IMG_BKGRP", why=f"{groups} image groups")
        isa = "ALU_PARALLEL" in self.module.parameters
        return Core(self.array(), int(isa), groups, self.isa1() if isa else self.isa0())  # type: ignore[arg-type]

    def array(self) -> Array:
        """The array of these sizes."""
        sizes = self.number("ARCH_PP"), self.number("ARCH_ICP"), self.number("ARCH_OCP")
        for array in ARRAYS:
            if sizes == (array.pixels, array.input_channels, array.output_channels):
                return array
        known = ", ".join(array.name for array in ARRAYS)
        why = f"pixels, input and output channels are {sizes}"
        raise ToolError("not an array of lowwatt", where="ARCH_PP", why=why, hint=f"known arrays: {known}")

    def isa0(self) -> Options:
        """Options of IP 3.x. Since 3.4 a core without depthwise convolution pools one row at once."""
        rows = self.rows("DWCV_PARALLEL", least=0)
        one = not rows and self.number("SYS_IP_VER", 0x33) >= 0x34
        return Options(
            augmentation=self.flag("LOAD_AUGM"),
            leaky_relu=self.flag("CONV_LEAKYRELU"),
            relu6=self.flag("CONV_RELU6"),
            average_pool=self.flag("POOL_AVERAGE"),
            depthwise=rows > 0,
            depthwise_relu6=self.flag("DWCV_RELU6"),
            eltwise_mul=self.flag("ELEW_MULT_EN"),
            pool_rows=1 if one else self.number("ARCH_PP") // 2,
            depthwise_rows=max(1, rows),
            eltwise_rows=self.rows("ELEW_PARALLEL"),
        )

    def isa1(self) -> Options:
        """Options of IP 4.x."""
        return alu_options(
            self.rows("ALU_PARALLEL"),
            augmentation=self.flag("LOAD_AUGM"),
            leaky_relu=self.flag("CONV_LEAKYRELU"),
            depthwise_leaky_relu=self.flag("ALU_LEAKYRELU"),
            save_argmax=self.flag("SAVE_ARGMAX_ENA"),
        )

    def rows(self, name: str, least: int = 1) -> int:
        """A number of rows, at most 15: the fingerprint has four bits for it."""
        rows = self.number(name, least)
        if not least <= rows <= 15:
            raise ToolError("not a machine of lowwatt", where=name, why=f"{rows} rows at once")
        return rows

    def flag(self, name: str) -> bool:
        """Whether something was switched on; what an IP does not mention it does not have."""
        value = self.number(name, 0)
        if value not in (0, 1):
            raise ToolError("not a machine of lowwatt", where=name, why=f"{value}, where 0 or 1 is expected")
        return value == 1

    def number(self, name: str, otherwise: int | None = None) -> int:
        """A parameter's value."""
        text = self.module.parameters.get(name, "" if otherwise is None else str(otherwise))
        try:
            return number(text)
        except ToolError as error:
            raise ToolError(f"the parameter {name} is no number", where=error.where) from None


def _clock(module: Module) -> float | None:
    """MHz of the core's clock, in tenths; None where the file does not say it."""
    for port, times in _CLOCKS.items():
        if module.clocks.get(port):
            mhz = round(_real(module.clocks[port], port) / 1e6 / times, 1)
            if not 1 <= mhz <= 2000:
                raise ToolError("not a machine of lowwatt", where=port, why=f"a clock of {mhz:g} MHz")
            return mhz
    return None


def _dram(modules: Iterable[Module]) -> Dram | None:
    """The memory of the processing system: four transfers in a cycle of its controller's clock."""
    for module in modules:
        width = re.match(r"(16|32|64)\b", module.parameters.get(f"{_DDR}BUS_WIDTH", ""))
        if width and _DDR_CLOCK in module.parameters:
            bits, mhz = int(width[1]), _real(module.parameters[_DDR_CLOCK], _DDR_CLOCK)
            if not 1 <= mhz <= 2000:
                return None
            kind = module.parameters.get(f"{_DDR}MEMORY_TYPE", "DRAM").replace(" ", "")
            said = "bus width and clock in the hand-off file"
            return Dram(f"{kind} x{bits} at {4 * mhz:.0f} MT/s", round(mhz * 4 * bits / 8 / 1000, 2), said)
    return None


def _real(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ToolError("not a number in the hand-off file", where=where, why=text[:80])
    return value
