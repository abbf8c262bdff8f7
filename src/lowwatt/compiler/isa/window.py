"""What an instruction reads and writes: the geometry that its fields state, in one place for compiler and simulator.

Everything is relative to the instruction's own origin. A window operator (CONV, POOL, DPTWISE, ALU) looks at input rows
`p * stride_h + k` for its output rows p and kernel rows k, counted with the padding; fields and rules are in
docs/dpu.md 8.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa.codes import EXEC_MODES
from lowwatt.compiler.isa.instruction import Instruction
from lowwatt.errors import ToolError
from lowwatt.targets import Target

_Item = TypeVar("_Item", np.int8, np.int32)

INIT_OF = {"CONV": "CONVINIT", "POOL": "POOLINIT", "DPTWISE": "DWINIT", "ALU": "ALUINIT"}
"""The instruction that sets a window operator's lasting numbers."""

Slab = tuple[slice, slice]
"""Some words of some neighbouring banks: (banks, words)."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window instruction with the numbers that its INIT left behind."""

    name: str
    numbers: Mapping[str, int]
    pixels: int
    depth: int

    @classmethod
    def of(cls, instruction: Instruction, init: Instruction, target: Target) -> Window:
        """Fields of both as real numbers; the instruction's own win."""
        both = {**init.numbers, **instruction.numbers}
        return cls(instruction.name, both, target.array.pixels, target.bank_depth)

    # -- sizes --------------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> int:
        """Output rows."""
        return self.numbers["valid_pixel_parallel"]

    @property
    def length(self) -> int:
        """Output columns."""
        return self.numbers["length"]

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width."""
        return self.numbers["kernel_h"], self.numbers["kernel_w"]

    @property
    def stride(self) -> tuple[int, int]:
        """Stride in height and width."""
        return self.numbers["stride_h"], self.numbers["stride_w"]

    @property
    def groups(self) -> int:
        """Words of a pixel that are read."""
        return self.numbers["channel_group"]

    @property
    def rows(self) -> range:
        """Input rows that are there, counted from the first one of the window, padding included."""
        last = (self.outputs - 1) * self.stride[0]
        return range(self.numbers["pad_top"], last + min(self.kernel[0] - 1, self.numbers["pad_bottom"]) + 1)

    @property
    def columns(self) -> range:
        """Input columns that are there, counted alike."""
        last = (self.length - 1) * self.stride[1]
        return range(self.numbers["pad_left"], last + min(self.kernel[1] - 1, self.numbers["pad_right"]) + 1)

    # -- places -------------------------------------------------------------------------------------------------

    def input_row(self, row: int) -> tuple[int, int]:
        """Bank, and word of the first column (padding counted), of an input row.

        `bank_addr_in`, `…_in_1`, `…_2`, `…_3` are for the rows before and after each wrap round the banks.
        """
        n = self.numbers
        slot, phase = divmod(n["stride_offset_in"] + row, self.stride[0])
        group, first = divmod(n["bank_id_in"], self.pixels)
        wrap, bank = divmod(first + slot, self.pixels)
        base = n["bank_addr_in" if wrap == 0 else f"bank_addr_in_{wrap}"]
        return group * self.pixels + bank, base + phase * n["jump_read_endl"]

    def output_row(self, row: int) -> tuple[int, int]:
        """Bank and first word of an output row."""
        n = self.numbers
        slot, phase = divmod(n["stride_offset_out"] + row, n["stride_out"])
        group, first = divmod(n["bank_id_out"], self.pixels)
        return group * self.pixels + (first + slot) % self.pixels, n["bank_addr_out"] + phase * n["jump_write_endl"]

    def reads(self) -> Iterator[Slab]:
        """Words of the image banks that are read."""
        jump, columns = self.numbers["jump_read"], self.columns
        for banks, address in _runs(self.input_row(row) for row in self.rows):
            start = address + columns.start * jump
            yield from _pixels(banks, start, len(columns), jump, self.groups, self.depth)

    def writes(self) -> Iterator[Slab]:
        """Words of the image banks that are written: CONV one group of channels, the others all."""
        jump, width = self.numbers["jump_write"], 1 if self.name == "CONV" else self.groups
        for banks, address in _runs(self.output_row(row) for row in range(self.outputs)):
            yield from _pixels(banks, address, self.length, jump, width, self.depth)


def _runs(places: Iterator[tuple[int, int]]) -> Iterator[tuple[slice, int]]:
    """Neighbouring banks with one address, brought together."""
    by_address: dict[int, list[int]] = {}
    for bank, address in places:
        by_address.setdefault(address, []).append(bank)
    for address, banks in by_address.items():
        start = previous = banks[0]
        for bank in [*banks[1:], -1]:
            if bank != previous + 1:
                yield slice(start, previous + 1), address
                start = bank
            previous = bank


def _pixels(banks: slice, start: int, count: int, jump: int, width: int, depth: int) -> Iterator[Slab]:
    """`width` words of each of `count` pixels, `jump` apart; addresses go round at the end of a bank."""
    if count <= 0:
        return
    if width == jump or count == 1:
        yield from _around(banks, start, count * width if width == jump else width, 1, depth)
        return
    for word in range(width):
        yield from _around(banks, start + word, count, jump, depth)


def _around(banks: slice, start: int, count: int, step: int, depth: int) -> Iterator[Slab]:
    start %= depth
    while count > 0:
        fit = min(count, (depth - start + step - 1) // step)
        yield banks, slice(start, start + (fit - 1) * step + 1, step)
        start, count = (start + fit * step) % depth, count - fit


@dataclass(frozen=True, slots=True)
class Accesses:
    """Words of banks and bytes of DRAM that an instruction reads and writes."""

    reads: tuple[Slab, ...] = ()
    writes: tuple[Slab, ...] = ()
    dram_read: Stretch | None = None
    dram_write: Stretch | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """`width` bytes at each of `count` places in a region of DRAM, `step` apart, from `start`."""

    region: int
    start: int
    count: int
    step: int
    width: int

    @property
    def stop(self) -> int:
        """First byte behind it."""
        return self.start + (self.count - 1) * self.step + self.width

    @property
    def bytes(self) -> int:
        """Bytes moved."""
        return self.count * self.width

    def view(self, table: NDArray[_Item]) -> NDArray[_Item]:
        """View [count, width] of what a table of its region holds for each byte; ToolError where it is outside."""
        if self.start < 0 or self.stop > len(table):
            why = f"bytes {self.start} to {self.stop - 1} of register {self.region}, which has {len(table)}"
            raise ToolError("an address lies outside its region of DRAM", why=why)
        if self.step == self.width or self.count == 1:
            return table[self.start : self.stop].reshape(self.count, self.width)
        size = table.itemsize
        shape, strides = (self.count, self.width), (self.step * size, size)
        return np.lib.stride_tricks.as_strided(table[self.start :], shape, strides)


def load_source(n: Mapping[str, int], lanes: int) -> Stretch:
    """What a LOAD reads. One with padding reads overlapping pieces of one stretch, without the bytes that it pads."""
    if not n["pad_start"] and not n["pad_end"]:
        return Stretch(n["reg_id"], n["ddr_addr"], n["length"], n["jump_read"], n["channel"])
    whole = (n["length"] - 1) * n["jump_read"] + n["channel"]
    behind = 0
    if n["pad_end"]:
        behind = n["pad_end"] + n["jump_read"] * n["pad_idx"] - (-n["channel"] % lanes)
    return Stretch(n["reg_id"], n["ddr_addr"] + n["pad_start"], 1, 1, whole - n["pad_start"] - behind)


class Reader:
    """Walks a program in order and says of each instruction what it reads and writes."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.inits: dict[str, Instruction] = {}
        self.operands: dict[int, Instruction] = {}

    def accesses(self, instruction: Instruction) -> Accesses:
        """Accesses of the next instruction; INIT instructions have none and are remembered."""
        name = instruction.name
        if name == "ELEWINIT":
            self.operands[instruction.numbers["id"]] = instruction
        elif name.endswith("INIT"):
            self.inits[name] = instruction
        elif name == "LOAD":
            return self._load(instruction.numbers)
        elif name == "SAVE":
            return self._save(instruction.numbers)
        elif name == "ELEW":
            return self._eltwise(instruction.numbers)
        elif name != "END":
            return self._window(self.window(instruction))
        return Accesses()

    def window(self, instruction: Instruction) -> Window:
        """A window instruction with its INIT's numbers."""
        return Window.of(instruction, self.inits[INIT_OF[instruction.name]], self._target)

    def _load(self, n: Mapping[str, int]) -> Accesses:
        words = -(-n["channel"] // self._target.array.input_channels)
        slabs = self._bank_pixels(n["bank_id"], n["bank_addr"], n["length"], n["jump_write"], words)
        return Accesses(writes=tuple(slabs), dram_read=load_source(n, self._target.array.input_channels))

    def _save(self, n: Mapping[str, int]) -> Accesses:
        words = -(-n["channel"] // self._target.array.input_channels)
        slabs = self._bank_pixels(n["bank_id"], n["bank_addr"], n["length"], n["jump_read"], words)
        sink = Stretch(n["reg_id"], n["ddr_addr"], n["length"], n["jump_write"], n["channel"])
        return Accesses(reads=tuple(slabs), dram_write=sink)

    def _bank_pixels(self, bank: int, start: int, count: int, jump: int, width: int) -> Iterator[Slab]:
        return _pixels(slice(bank, bank + 1), start, count, jump, width, self._target.bank_depth)

    def _eltwise(self, n: Mapping[str, int]) -> Accesses:
        depth, rows = self._target.bank_depth, slice(0, n.get("valid_pixel_parallel", 1))
        reads: list[Slab] = []
        for index in range(n["num"]):
            one = self.operands[index].numbers
            banks = slice(one["bank_id_in"], one["bank_id_in"] + rows.stop)
            reads.extend(_pixels(banks, one["bank_addr_in"], n["length"], one["jump_read"], n["channel_group"], depth))
        out = slice(n["bank_id_out"], n["bank_id_out"] + rows.stop)
        writes = _pixels(out, n["bank_addr_out"], n["length"], n["jump_write"], n["channel_group"], depth)
        return Accesses(tuple(reads), tuple(writes))

    def _window(self, window: Window) -> Accesses:
        return Accesses((*window.reads(), *self._parameters(window)), tuple(window.writes()))

    def _parameters(self, window: Window) -> Iterator[Slab]:
        """Weights and bias."""
        target, n, depth = self._target, window.numbers, self._target.bank_depth
        bias = slice(target.bias_bank, target.bias_bank + 1)
        if window.name == "CONV":
            banks = slice(target.weight_banks.start, target.weight_banks.stop)
            count = window.groups * window.kernel[0] * window.kernel[1]
            yield from _around(banks, n["bank_addr_weights"], count, 1, depth)
            yield from _around(bias, n["bank_addr_bias"], 1, 1, depth)
        elif window.name == "DPTWISE" or (window.name == "ALU" and n["exec_mode"] == EXEC_MODES["depthwise"]):
            assert target.depthwise_bank is not None
            banks = slice(target.depthwise_bank, target.depthwise_bank + 1)
            positions, jump = window.kernel[0] * window.kernel[1], n.get("jump_read_weights", window.groups)
            yield from _pixels(banks, n["bank_addr_weights"], positions, jump, window.groups, depth)
            yield from _around(bias, n["bank_addr_bias"], window.groups, 1, depth)
