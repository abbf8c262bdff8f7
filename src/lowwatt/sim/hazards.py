"""Is a program's order safe? What its words read and write, against what their tokens order.

Each instruction knows, by its tokens and by its engine's order, which instructions of the other engines are done before
it starts (a vector clock). Two accesses of one word, one of them a write, by two engines must be ordered so; else it is
a matter of luck which comes first. A word that is read must have been written. (The words read and written are those
of `compiler.isa.window`, which the vendor's own programs confirm: docs/dpu.md 8.6.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.clock import work_of
from lowwatt.compiler.dram import CONSTANTS, INPUTS
from lowwatt.compiler.isa import ENGINES, ISA0, ISA1, Instruction, decode, text
from lowwatt.compiler.isa.window import Reader, Slab, Stretch
from lowwatt.compiler.segment import Segment
from lowwatt.targets import Target

_NEVER = -1


@dataclass(frozen=True, slots=True)
class Hazard:
    """One finding: what is wrong between an instruction and an earlier one (None: a word that nothing wrote)."""

    kind: str
    instruction: int
    other: int | None
    message: str


def find_hazards(segment: Segment, target: Target) -> list[Hazard]:
    """Races and reads of unwritten words in a segment's program; ToolError for a token that nobody posts."""
    instructions = decode(segment.code, (ISA0, ISA1)[target.isa])
    return list(_Check(segment, target, instructions).run())


class _Check:
    def __init__(self, segment: Segment, target: Target, instructions: Sequence[Instruction]) -> None:
        self._segment, self._target, self._instructions = segment, target, instructions
        shape = (len(ENGINES), target.bias_bank + 1, target.bank_depth)
        self._written = np.full(shape, _NEVER, np.int32)
        self._read = np.full(shape, _NEVER, np.int32)
        sizes = {r: n for r, n in segment.dram.sizes.items() if r not in (CONSTANTS, INPUTS)}
        self._saved = {register: np.full(size, _NEVER, np.int32) for register, size in sizes.items()}
        self._loaded = {register: np.full(size, _NEVER, np.int32) for register, size in sizes.items()}

    def run(self) -> Iterator[Hazard]:
        reader, clocks = Reader(self._target), self._clocks()
        for index, instruction in enumerate(self._instructions):
            accesses, engine = reader.accesses(instruction), ENGINES.index(instruction.engine)
            for slab in accesses.reads:
                yield from self._slab("read before it is written", index, self._written, slab, clocks[index])
                yield from self._unwritten(index, slab)
            for slab in accesses.writes:
                yield from self._slab("written while another writes", index, self._written, slab, clocks[index])
                yield from self._slab("written while another reads", index, self._read, slab, clocks[index])
            yield from self._dram("loaded before it is saved", index, self._saved, accesses.dram_read, clocks[index])
            yield from self._dram("saved while another loads", index, self._loaded, accesses.dram_write, clocks[index])
            self._note(index, engine, accesses.reads, accesses.writes, accesses.dram_read, accesses.dram_write)

    def _clocks(self) -> list[list[int]]:
        """For each instruction the last one of each engine that is done when it starts."""
        tokens, last = work_of(self._instructions).tokens, [_NEVER] * len(ENGINES)
        known: list[list[int]] = []
        for index, instruction in enumerate(self._instructions):
            engine = ENGINES.index(instruction.engine)
            before = [k for k in (last[engine], *tokens[index]) if k != _NEVER]
            clock = [max((known[k][e] for k in before), default=_NEVER) for e in range(len(ENGINES))]
            for k in before:
                e = ENGINES.index(self._instructions[k].engine)
                clock[e] = max(clock[e], k)
            known.append(clock)
            last[engine] = index
        return known

    def _slab(
        self, kind: str, index: int, table: NDArray[np.int32], slab: Slab, clock: Sequence[int]
    ) -> Iterator[Hazard]:
        own = ENGINES.index(self._instructions[index].engine)
        for engine in range(len(ENGINES)):
            latest = int(table[engine][slab].max(initial=_NEVER))
            if engine != own and latest > clock[engine]:
                yield self._hazard(kind, index, latest)

    def _unwritten(self, index: int, slab: Slab) -> Iterator[Hazard]:
        """Weights of output channels that a layer does not have are read by the machine and used by nobody."""
        weights = self._target.weight_banks
        if slab[0].start < weights.start and (self._written[:, slab[0], slab[1]].max(axis=0) == _NEVER).any():
            yield self._hazard("read, and nothing was ever written there", index, None)

    def _dram(
        self,
        kind: str,
        index: int,
        tables: dict[int, NDArray[np.int32]],
        stretch: Stretch | None,
        clock: Sequence[int],
    ) -> Iterator[Hazard]:
        if stretch is None or stretch.region not in tables:
            return
        latest = int(tables[stretch.region][_offsets(stretch)].max(initial=_NEVER))
        if latest != _NEVER and latest > clock[ENGINES.index(self._instructions[latest].engine)]:
            yield self._hazard(kind, index, latest)

    def _note(
        self,
        index: int,
        engine: int,
        reads: Sequence[Slab],
        writes: Sequence[Slab],
        loaded: Stretch | None,
        saved: Stretch | None,
    ) -> None:
        for slab in reads:
            self._read[engine][slab] = index
        for slab in writes:
            self._written[engine][slab] = index
        for stretch, tables in ((loaded, self._loaded), (saved, self._saved)):
            if stretch is not None and stretch.region in tables:
                tables[stretch.region][_offsets(stretch)] = index

    def _hazard(self, kind: str, index: int, other: int | None) -> Hazard:
        message = self._said(index) if other is None else f"{self._said(index)}; against {self._said(other)}"
        return Hazard(kind, index, other, message)

    def _said(self, index: int) -> str:
        layer = self._segment.layers[self._segment.owners[index]].name
        return f"instruction {index} of layer {layer}: {text(self._instructions[index])}"


def _offsets(stretch: Stretch) -> NDArray[np.int64]:
    """Bytes of a stretch."""
    places = stretch.start + np.arange(stretch.count) * stretch.step
    return (places[:, None] + np.arange(stretch.width)).ravel()
