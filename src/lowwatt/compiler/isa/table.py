"""The instruction words of DPUCZDX8G as data: name, opcode, engine and, word by word from bit 0 up, the fields.

Source: the headers of the vendor's open tracer, corrected and completed by genuine programs (docs/dpu.md 8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lowwatt.errors import ToolError, did_you_mean

ENGINES = ("LOAD", "SAVE", "CONV", "MISC")
"""Bit k of a dependency mask stands for ENGINES[k]."""

WORD_BYTES = 4


@dataclass(frozen=True)
class Field:
    """Some bits of one word: `word` counts from 0, `shift` from bit 0. Reserved bits have the name "".

    `kind` says what the bits stand for: "" the number itself, "+1" one less than the number, "±" sign and magnitude.
    """

    name: str
    word: int
    shift: int
    width: int
    kind: str = ""

    @property
    def limit(self) -> int:
        """Greatest raw value."""
        return (1 << self.width) - 1

    def real(self, raw: int) -> int:
        """The number that the bits stand for.

        >>> Field("length", 2, 0, 10, "+1").real(27), Field("shift_write", 2, 12, 5, "±").real(0b10001)
        (28, -1)
        """
        if self.kind == "+1":
            return raw + 1
        sign = 1 << (self.width - 1)
        return sign - raw if self.kind == "±" and raw & sign else raw

    def raw(self, number: int) -> int:
        """The bits that stand for a number; may be more than `limit`, which `encode` refuses.

        >>> Field("shift_write", 2, 12, 5, "±").raw(-1)
        17
        """
        if self.kind == "±" and number < 0:
            sign = 1 << (self.width - 1)
            return sign - number if -number < sign else self.limit + 1
        return number - 1 if self.kind == "+1" else number


@dataclass(frozen=True)
class InstructionSpec:
    """One kind of instruction, executed by `engine`, `length` words long."""

    name: str
    opcode: int
    engine: str
    length: int
    fields: tuple[Field, ...]

    @cached_property
    def named(self) -> dict[str, Field]:
        """Fields by name, without the reserved ones and the opcode."""
        return {field.name: field for field in self.fields if field.name not in ("", "opcode")}


@dataclass(frozen=True)
class InstructionSet:
    """All instructions of one machine generation."""

    name: str
    by_opcode: Mapping[int, InstructionSpec]

    @cached_property
    def by_name(self) -> dict[str, InstructionSpec]:
        """Instructions by name."""
        return {spec.name: spec for spec in self.by_opcode.values()}

    def spec(self, name: str) -> InstructionSpec:
        """The instruction of a name; ToolError where this set has none.

        >>> ISA1.spec("CONV").opcode
        8
        """
        if name not in self.by_name:
            raise ToolError(f"{self.name} has no instruction {name}", hint=did_you_mean(name, self.by_name))
        return self.by_name[name]


# One block an instruction: name, opcode, engine; then a line a word. "-" is reserved; "+1" and "±" are kinds of Field.
# Bits 20 to 31 of the first word are those of _HEAD everywhere.
_HEAD = " depended_by:4 depends_on:4 opcode:4"

_COMMON = """
CONVINIT 9 CONV
  jump_read:10+1 shift_cut:6 act_type:4
  jump_read_endl:10+1 shift_bias:6 -:12 stride_out:4+1
  jump_write:10+1 stride_offset_in:3 valid_pixel_parallel:3+1 -:8 kernel_h:4+1 stride_h:4+1
  jump_write_endl:10+1 stride_offset_out:3 -:11 kernel_w:4+1 stride_w:4+1
CONV 8 CONV
  bank_addr_in:12 pad_top:4 pad_left:4
  bank_addr_out:12 pad_bottom:4 pad_right:4 -:4 channel_group:8+1
  bank_addr_weights:12 bank_id_in:6 -:4 length:10+1
  bank_addr_bias:12 bank_id_out:6 bank_addr_in_1:12 -:2
  bank_addr_in_2:12 bank_addr_in_3:12 channel_offset:5 -:3
POOLINIT 6 MISC
  jump_read:10+1 kernel_h:3+1 kernel_w:3+1 shift_cut:4
  pool_type:2 stride_h:3+1 stride_w:3+1 stride_offset_in:3 valid_pixel_parallel:3+1 stride_offset_out:3 stride_out:4+1\
 jump_write:10+1 -:1
POOL C MISC
  bank_addr_in:12 channel_group:8+1
  bank_id_in:6 pad_bottom:3 pad_right:3 pad_top:3 pad_left:3 jump_write_endl:12+1 -:2
  bank_id_out:6 length:10+1 jump_read_endl:12+1 -:4
  bank_addr_out:12 bank_addr_in_1:12 downsample_kernel_w:8
  bank_addr_in_2:12 bank_addr_in_3:12 downsample_kernel_h:8
DWINIT B MISC
  jump_read_endl:10+1 jump_read:10+1
  jump_write_endl:10+1 kernel_h:4+1 kernel_w:4+1 stride_h:4+1 stride_w:4+1 valid_pixel_parallel:3+1 stride_offset_in:3
  shift_cut:6 shift_bias:6 stride_offset_out:3 stride_out:4+1 jump_write:10+1 -:3
DPTWISE A MISC
  bank_addr_in:12 channel_group:8+1
  bank_addr_out:12 -:4 pad_bottom:4 pad_top:4 pad_right:4 pad_left:4
  bank_addr_weights:12 bank_id_in:6 length:10+1 act_type:4
  bank_addr_bias:12 bank_id_out:6 bank_addr_in_1:12 -:2
  bank_addr_in_2:12 bank_addr_in_3:12 channel_offset:5 -:3
END 7 SAVE
  -:20
"""

_ISA0 = """
LOAD 0 LOAD
  bank_addr:12 bank_id:6 hp_id:2
  jump_read:16+1 pad_idx:5 pad_end:5 pad_start:5 -:1
  channel:12+1 mode_avg:2 length:10+1 jump_write:8+1
  ddr_addr:29 reg_id:3
SAVE 4 SAVE
  bank_addr:12 bank_id:6 hp_id:2
  jump_write:16+1 -:16
  channel:12+1 -:2 length:10+1 jump_read:8+1
  ddr_addr:29 reg_id:3
ELEWINIT D MISC
  jump_read:10+1 shift_read:4 bank_id_in:6
  bank_addr_in:12 id:2 -:18
ELEW E MISC
  jump_write:10+1 shift_write:4± bank_id_out:6
  bank_addr_out:12 length:10+1 channel_group:8+1 num:2+1
  act_type:1 elew_type:2 -:29
"""

# Cores of DPU 1.4.0, before the ISA0 that the vendor's headers describe.
_ISA0_FIRST = """
CONV 8 CONV
  bank_addr_in:12 pad_top:4 pad_left:4
  bank_addr_out:12 pad_bottom:4 pad_right:4 channel_offset:4 channel_group:8+1
  bank_addr_weights:12 bank_id_in:6 -:4 length:10+1
  bank_addr_bias:12 bank_id_out:6 bank_addr_in_1:12 -:2
  bank_addr_in_2:12 bank_addr_in_3:12 -:8
DPTWISE A MISC
  bank_addr_in:12 channel_group:8+1
  bank_addr_out:12 channel_offset:4 pad_bottom:4 pad_top:4 pad_right:4 pad_left:4
  bank_addr_weights:12 bank_id_in:6 length:10+1 act_type:4
  bank_addr_bias:12 bank_id_out:6 bank_addr_in_1:12 -:2
  bank_addr_in_2:12 bank_addr_in_3:12 -:8
ELEW E MISC
  jump_write:10+1 shift_write:4± bank_id_out:6
  bank_addr_out:12 length:10+1 channel_group:8+1 num:2+1
"""

_ISA1 = """
LOAD 0 LOAD
  bank_addr:12 -:2 bank_id:6
  jump_write:10+1 jump_read:16+1 -:6
  length:10+1 channel:14+1 -:3 pad_idx:5
  reg_id:3 -:5 const_value:8 broadcast:4 mode_avg:2 pad_end:5 pad_start:5
  ddr_addr:29 -:3
SAVE 4 SAVE
  bank_addr:12 -:2 bank_id:6
  jump_read:10+1 jump_write:16+1 -:3 hp_id:2 -:1
  length:10+1 channel:12+1 -:10
  reg_id:3 -:5 const_value:8 const_en:1 -:15
  ddr_addr:29 -:3
ALUINIT 1 MISC
  kernel_w:8+1 kernel_h:8+1 exec_mode:4
  stride_offset_out:8 stride_offset_in:8 stride_w:8+1 stride_h:8+1
  length:11+1 channel_offset:5 channel_group:8+1 stride_out:8+1
  shift_prelu_n:6 shift_cut:6 shift_bias:6 act_type:4 shift_prelu_p:6 -:4
  jump_read_endl:13+1 jump_read:10+1 multi_factor:8 -:1
  jump_write_endl:13+1 jump_write:10+1 jump_read_weights:9
ALU 2 MISC
  bank_addr_out:14 bank_id_out:6
  bank_addr_in:14 bank_id_in:6 valid_pixel_parallel:3+1 pad_bottom:8 -:1
  bank_addr_in_1:14 pad_right:8 pad_left:4 pad_top:4 -:2
  bank_addr_in_2:14 bank_addr_weights:14 kernel_d:4
  bank_addr_in_3:14 bank_addr_bias:14 -:4
ELEWINIT D MISC
  -:13 share_pp:1 bank_id_in:6
  bank_addr_in:14 jump_read_endl:13 id:2 jump_bank:3
  jump_read:12 shift_read:4 -:16
ELEW E MISC
  length:11+1 act_type:1 elew_type:2 bank_id_out:6
  bank_addr_out:14 jump_write_endl:13 num:2+1 valid_pixel_parallel:3+1
  jump_write:12+1 shift_write:5± channel_group:8+1 -:7
"""

_ITEM = re.compile(r"(-|\w+):(\d+)(\+1|±)?")


def _word(index: int, line: str) -> list[Field]:
    fields, shift = [], 0
    for name, width, kind in _ITEM.findall(line):
        fields.append(Field(name.strip("-"), index, shift, int(width), kind))
        shift += int(width)
    if shift != 32:
        raise ValueError(f"{shift} bits in {line!r}")
    return fields


def _spec(heading: str, words: list[str]) -> InstructionSpec:
    name, opcode, engine = heading.split()
    lines = [words[0] + _HEAD, *words[1:]]
    fields = tuple(field for index, line in enumerate(lines) for field in _word(index, line))
    return InstructionSpec(name, int(opcode, 16), engine, len(lines), fields)


def _set(name: str, *blocks: str) -> InstructionSet:
    """The instructions of all blocks; a later block replaces instructions of an earlier one."""
    found: dict[int, InstructionSpec] = {}
    for block in re.findall(r"^\w.*(?:\n +.*)*", "".join(blocks), re.MULTILINE):
        heading, *words = block.splitlines()
        spec = _spec(heading, words)
        found[spec.opcode] = spec
    return InstructionSet(name, found)


ISA0 = _set("ISA0", _COMMON, _ISA0)
ISA0_FIRST = _set("ISA0 of DPU 1.4.0", _COMMON, _ISA0, _ISA0_FIRST)
ISA1 = _set("ISA1", _COMMON, _ISA1)
