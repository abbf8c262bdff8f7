"""disasm: the programs in a compiled file, the vendor's or ours, decoded and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from lowwatt.compiler import Program
from lowwatt.compiler.isa import ENGINES, ISA0, ISA1, Instruction, Tokens, balance, decode, first_stuck, listing
from lowwatt.compiler.isa.foreign import Stream, streams
from lowwatt.compiler.segment import LayerInfo
from lowwatt.compiler.xmodel_parts import read_parts
from lowwatt.errors import ToolError, did_you_mean


@dataclass(frozen=True)
class Disassembly:
    """One program, decoded to its last byte.

    Where the file says so (ours do), `layers` are the program's and `owners[k]` is the layer of instruction k. `only`
    picks one of them: tokens are those of the whole program, all else is of that layer.
    """

    stream: Stream
    instructions: Sequence[Instruction]
    layers: Sequence[LayerInfo] = ()
    owners: Sequence[int] = ()
    only: int | None = None

    @cached_property
    def shown(self) -> list[int]:
        """Positions of the instructions that are asked for."""
        return [k for k in range(len(self.instructions)) if self.only is None or self.owners[k] == self.only]

    def runs(self) -> Iterator[tuple[LayerInfo | None, list[int]]]:
        """Positions that follow one another in one layer, with the layer where it is known."""
        numbered = enumerate(self.shown)
        for (owner, _), group in groupby(numbered, lambda item: (self._owner(item[1]), item[1] - item[0])):
            yield None if owner is None else self.layers[owner], [k for _, k in group]

    def _owner(self, k: int) -> int | None:
        return self.owners[k] if self.owners else None

    def bytes_of(self, positions: Sequence[int]) -> range:
        """Offsets of the bytes of instructions that follow one another."""
        behind = positions[-1] + 1
        end = self.lines[behind][0] if behind < len(self.lines) else len(self.stream.code)
        return range(self.lines[positions[0]][0], end)

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """Byte offset and line of every instruction of the program."""
        return list(listing(self.instructions))

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
        return dict(Counter(self.instructions[k].name for k in self.shown))

    def by_engine(self) -> dict[str, int]:
        """Instructions of each engine."""
        counts = Counter(self.instructions[k].engine for k in self.shown)
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
            "layers": [row for index, row in enumerate(self._layers()) if self.only in (None, index)],
            "instructions": [self._row(k) for k in self.shown],
        }

    def _layers(self) -> list[dict[str, Any]]:
        """Each layer with its runs: first and last instruction and byte, half-open."""
        rows: dict[str, dict[str, Any]] = {
            layer.name: {"name": layer.name, "op": layer.op, "origin": layer.origin, "instructions": 0, "runs": []}
            for layer in self.layers
        }
        for layer, positions in self.runs():
            if layer is not None:
                at, row = self.bytes_of(positions), rows[layer.name]
                row["instructions"] += len(positions)
                run = {"first": positions[0], "last": positions[-1] + 1, "first_byte": at.start, "last_byte": at.stop}
                row["runs"].append(run)
        return list(rows.values())

    def _row(self, k: int) -> dict[str, Any]:
        one = self.instructions[k]
        named = [name for name in one.spec.named if name not in ("depends_on", "depended_by")]
        row = {
            "offset": self.lines[k][0],
            "name": one.name,
            "depends_on": list(one.depends_on),
            "depended_by": list(one.depended_by),
            "fields": {name: one.real(name) for name in named},
        }
        return {**row, "layer": self.layers[self.owners[k]].name} if self.owners else row


def disassemble(file: Path, layers: bool = False, layer: str = "") -> list[Disassembly]:
    """Programs of our own .lwp, a compiled .xmodel or a DNNDK .elf; of files of ours with the layers.

    `layers`: also the single layers' programs that some of the vendor's files have. `layer`: one layer alone, by its
    name; ToolError where there is none of that name.
    """
    if programs := _own(file) if file.suffix == ".lwp" else _noted(file):
        return [_one_layer(programs, layer)] if layer else programs
    found = streams(file)
    if layer:
        by_name = {stream.name: stream for stream in found if stream.layer}
        if layer not in by_name:
            raise _no_layer(layer, list(by_name))
        return [_decoded(by_name[layer])]
    return [_decoded(stream) for stream in found if layers or not stream.layer]


def _own(file: Path) -> list[Disassembly]:
    program = Program.load(file)
    isa, fingerprint = (ISA0, ISA1)[program.target.isa], program.target.fingerprint
    found = [
        Disassembly(
            Stream(f"segment {number}", isa, segment.code, fingerprint),
            segment.instructions,
            segment.layers,
            segment.owners,
        )
        for number, segment in enumerate(program.segments)
        if segment.side == "dpu"
    ]
    if not found:
        raise ToolError("the file holds no DPU code", where=str(file), why="all of it runs on the host")
    return found


def _noted(file: Path) -> list[Disassembly]:
    """Programs of a compiled .xmodel of ours, in which every layer's instructions are noted; [] for other files."""
    parts = read_parts(file) if file.suffix == ".xmodel" else []
    if not all(part.layers for part in parts):
        return []
    return [
        Disassembly(
            Stream(part.name, part.isa, part.code, part.fingerprint), part.instructions, part.layers, part.owners
        )
        for part in parts
    ]


def _one_layer(programs: Sequence[Disassembly], name: str) -> Disassembly:
    for program in programs:
        for index, layer in enumerate(program.layers):
            if layer.name == name:
                return replace(program, only=index)
    raise _no_layer(name, [layer.name for program in programs for layer in program.layers])


def _no_layer(name: str, known: Sequence[str]) -> ToolError:
    if not known:
        return ToolError("the file has no layer of that name", where=name, why="it does not tell layers apart")
    return ToolError("the file has no layer of that name", where=name, hint=did_you_mean(name, known))


def _decoded(stream: Stream) -> Disassembly:
    try:
        return Disassembly(stream, decode(stream.code, stream.isa))
    except ToolError as error:
        what = f"cannot decode {stream.name}: {error.what}"
        raise ToolError(what, where=error.where, why=error.why, hint=error.hint) from None
