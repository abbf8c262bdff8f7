"""Instructions as text: one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lowwatt.compiler.isa.instruction import Instruction
from lowwatt.compiler.isa.table import WORD_BYTES

_MASKS = ("depends_on", "depended_by")


def text(instruction: Instruction) -> str:
    """One readable line: name, engines waited for and told, then the fields as real numbers.

    Left out: fields that are 0 and no address, bank or register. Addresses in DRAM are hexadecimal.

    >>> from lowwatt.compiler.isa.table import ISA0
    >>> text(Instruction(ISA0.spec("END"), {"depends_on": 2, "depended_by": 2}))
    'END      wait SAVE post SAVE'
    """
    parts = [f"{instruction.name:<8}", *_dependencies(instruction)]
    for name in instruction.spec.named:
        if name not in _MASKS:
            parts.extend(_shown(instruction, name))
    return " ".join(parts).rstrip()


def _dependencies(instruction: Instruction) -> Iterator[str]:
    for word, engines in (("wait", instruction.depends_on), ("post", instruction.depended_by)):
        if engines:
            yield f"{word} {'+'.join(engines)}"


def _shown(instruction: Instruction, name: str) -> Iterator[str]:
    number = instruction.real(name)
    if name == "ddr_addr":
        yield f"{name} 0x{number:x}"
    elif number or name.startswith(("bank_id", "bank_addr", "reg_id")):
        yield f"{name} {number}"


def listing(instructions: Sequence[Instruction]) -> Iterator[tuple[int, str]]:
    """Byte offset and line of each instruction."""
    at = 0
    for instruction in instructions:
        yield at, text(instruction)
        at += instruction.spec.length * WORD_BYTES
