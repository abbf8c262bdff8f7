"""disasm: the programs in a compiled file, decoded and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lowwatt.compiler.isa import ENGINES, Instruction, Tokens, balance, decode, first_stuck, listing
from lowwatt.compiler.isa.foreign import Stream, streams
from lowwatt.errors import ToolError


@dataclass(frozen=True)
class Disassembly:
    """One program, decoded to its last byte."""

    stream: Stream
    instructions: list[Instruction]

    @cached_property
    def tokens(self) -> dict[tuple[str, str], Tokens]:
        """Tokens by (producer, consumer)."""
        return balance(self.instructions)

    @property
    def balanced(self) -> bool:
        """As many tokens posted as taken, for every pair of engines."""
        return all(tokens.balanced for tokens in self.tokens.values())

    @cached_property
    def stuck(self) -> int | None:
        """Index of the first instruction that waits for ever."""
        return first_stuck(self.instructions)

    def by_name(self) -> dict[str, int]:
        """Instructions of each kind."""
        return dict(Counter(instruction.name for instruction in self.instructions))

    def by_engine(self) -> dict[str, int]:
        """Instructions of each engine."""
        counts = Counter(instruction.engine for instruction in self.instructions)
        return {engine: counts[engine] for engine in ENGINES}

    def to_json(self) -> dict[str, Any]:
        """All of it; fields as real numbers."""
        fingerprint = self.stream.fingerprint
        tokens = [
            {"producer": pair[0], "consumer": pair[1], "posted": t.posted, "taken": t.taken}
            for pair, t in self.tokens.items()
        ]
        return {
            "name": self.stream.name,
            "isa": self.stream.isa.name,
            "fingerprint": None if fingerprint is None else f"0x{fingerprint:x}",
            "bytes": len(self.stream.code),
            "engines": self.by_engine(),
            "kinds": self.by_name(),
            "tokens": tokens,
            "balanced": self.balanced,
            "stuck_at": self.stuck,
            "instructions": [
                _row(at, i) for (at, _), i in zip(listing(self.instructions), self.instructions, strict=True)
            ],
        }


def _row(offset: int, instruction: Instruction) -> dict[str, Any]:
    named = [name for name in instruction.spec.named if name not in ("depends_on", "depended_by")]
    return {
        "offset": offset,
        "name": instruction.name,
        "depends_on": list(instruction.depends_on),
        "depended_by": list(instruction.depended_by),
        "fields": {name: instruction.real(name) for name in named},
    }


def disassemble(file: Path, layers: bool = False) -> list[Disassembly]:
    """Programs of a compiled .xmodel or DNNDK .elf; with `layers` also the single layers' that some files have."""
    return [_decoded(stream) for stream in streams(file) if layers or not stream.layer]


def _decoded(stream: Stream) -> Disassembly:
    try:
        return Disassembly(stream, decode(stream.code, stream.isa))
    except ToolError as error:
        what = f"cannot decode {stream.name}: {error.what}"
        raise ToolError(what, where=error.where, why=error.why, hint=error.hint) from None
