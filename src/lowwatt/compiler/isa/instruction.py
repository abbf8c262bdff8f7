"""One instruction, and programs as bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lowwatt.compiler.isa.table import ENGINES, WORD_BYTES, InstructionSet, InstructionSpec
from lowwatt.errors import ToolError

_HINT = "the code is damaged, or of another machine than the instruction set says"


@dataclass(frozen=True)
class Instruction:
    """An instruction: its kind, and the raw value of every named field (a length of 28 is stored as 27)."""

    spec: InstructionSpec
    values: Mapping[str, int]

    @property
    def name(self) -> str:
        """LOAD, CONV, …"""
        return self.spec.name

    @property
    def engine(self) -> str:
        """The one of ENGINES that executes it."""
        return self.spec.engine

    @cached_property
    def numbers(self) -> dict[str, int]:
        """What all fields stand for."""
        return {name: field.real(self.values[name]) for name, field in self.spec.named.items()}

    def real(self, name: str) -> int:
        """The number that a field stands for.

        >>> from lowwatt.compiler.isa.table import ISA1
        >>> Instruction(ISA1.spec("LOAD"), {"length": 27}).real("length")
        28
        """
        return self.spec.named[name].real(self.values[name])

    @classmethod
    def make(cls, spec: InstructionSpec, **numbers: int) -> Instruction:
        """Instruction of real numbers by field; what is not given is 0 in the words.

        >>> from lowwatt.compiler.isa.table import ISA1
        >>> Instruction.make(ISA1.spec("LOAD"), length=28).values["length"]
        27
        """
        values = dict.fromkeys(spec.named, 0)
        for name, number in numbers.items():
            values[name] = spec.named[name].raw(number)
        return cls(spec, values)

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Engines whose tokens it takes before it starts."""
        return _engines(self.values["depends_on"])

    @property
    def depended_by(self) -> tuple[str, ...]:
        """Engines to which it posts a token when it is done."""
        return _engines(self.values["depended_by"])


def _engines(mask: int) -> tuple[str, ...]:
    return tuple(engine for bit, engine in enumerate(ENGINES) if mask >> bit & 1)


def encode(instruction: Instruction) -> tuple[int, ...]:
    """Words of an instruction; ToolError where a field is missing, unknown or does not fit.

    >>> from lowwatt.compiler.isa.table import ISA0
    >>> [hex(word) for word in encode(Instruction(ISA0.spec("END"), {"depends_on": 2, "depended_by": 2}))]
    ['0x72200000']
    """
    spec, values = instruction.spec, instruction.values
    if wrong := values.keys() ^ spec.named.keys():
        raise ToolError(f"{spec.name} has other fields", where=", ".join(sorted(wrong)))
    words = [spec.opcode << 28] + [0] * (spec.length - 1)
    for name, field in spec.named.items():
        if not 0 <= values[name] <= field.limit:
            why = f"{values[name]} is not within 0 … {field.limit}"
            raise ToolError(f"a field of {spec.name} does not fit its {field.width} bits", where=name, why=why)
        words[field.word] |= values[name] << field.shift
    return tuple(words)


def assemble(instructions: Iterable[Instruction]) -> bytes:
    """Program of instructions, little-endian."""
    words = [word for instruction in instructions for word in encode(instruction)]
    return struct.pack(f"<{len(words)}I", *words)


def decode(code: bytes, isa: InstructionSet) -> list[Instruction]:
    """Instructions of a program, to its last byte.

    `assemble` gives back the same bytes. ToolError, with the byte, for an opcode that `isa` has not, for a program that
    ends within an instruction, and for reserved bits that are set: in genuine programs all are zero (docs/dpu.md 8.1).
    """
    if len(code) % WORD_BYTES:
        raise _fail("the program ends within a word", len(code) - len(code) % WORD_BYTES)
    words = struct.unpack(f"<{len(code) // WORD_BYTES}I", code)
    found, at = [], 0
    while at < len(words):
        found.append(_decode_one(words, at, isa))
        at += found[-1].spec.length
    return found


def _decode_one(words: tuple[int, ...], at: int, isa: InstructionSet) -> Instruction:
    spec = isa.by_opcode.get(words[at] >> 28)
    if spec is None:
        raise _fail(f"{isa.name} has no opcode 0x{words[at] >> 28:X}", at * WORD_BYTES)
    if at + spec.length > len(words):
        why = f"{len(words) - at} of {spec.length} words"
        raise _fail(f"the program ends within a {spec.name}", at * WORD_BYTES, why)
    values = {}
    for field in spec.fields:
        raw = words[at + field.word] >> field.shift & field.limit
        if field.name:
            values[field.name] = raw
        elif raw:
            where = (at + field.word) * WORD_BYTES
            raise _fail(f"reserved bits of {spec.name} are set", where, f"bits {field.shift} up hold 0x{raw:X}")
    del values["opcode"]
    return Instruction(spec, values)


def _fail(what: str, byte: int, why: str = "") -> ToolError:
    return ToolError(what, where=f"byte {byte} (0x{byte:X})", why=why, hint=_HINT)
