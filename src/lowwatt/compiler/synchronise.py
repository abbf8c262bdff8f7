"""Tokens: what each instruction must wait for, found from what instructions read and write.

Engines execute their own instructions in order; between engines only tokens order things (docs/dpu.md 8.2). This pass
walks the program in order, keeps who wrote and read each word of the banks and each byte of DRAM last, and makes an
instruction wait where it reads what another engine wrote, or writes what another engine still reads or wrote. Waits
that earlier ones imply are left out: an instruction knows what its engine, and those it waited for, had waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.dram import CONSTANTS, INPUTS
from lowwatt.compiler.isa import ENGINES, Instruction
from lowwatt.compiler.isa.window import Accesses, Reader, Stretch
from lowwatt.targets import Target

_INDEX = {engine: k for k, engine in enumerate(ENGINES)}
Clock = list[int]
"""For each engine the last of its instructions that is known to be done; -1 for none."""


class Trace:
    """Last writer and last readers of every word and byte, as positions in the program."""

    def __init__(self, target: Target, dram_bytes: Mapping[int, int]) -> None:
        banks = (target.bias_bank + 1, target.bank_depth)
        self._written = [np.full(banks, -1, np.int32) for _ in ENGINES]
        self._read = [np.full(banks, -1, np.int32) for _ in ENGINES]
        sizes = {r: size for r, size in dram_bytes.items() if r not in (CONSTANTS, INPUTS)}
        self._saved = {r: np.full(size, -1, np.int32) for r, size in sizes.items()}
        self._loaded = {r: np.full(size, -1, np.int32) for r, size in sizes.items()}

    def conflicts(self, accesses: Accesses, engine: int) -> Clock:
        """For each other engine the last instruction that must be done before these accesses."""
        needed = [-1] * len(ENGINES)
        for other in range(len(ENGINES)):
            if other != engine:
                before = [self._written[other][slab] for slab in (*accesses.reads, *accesses.writes)]
                before += [self._read[other][slab] for slab in accesses.writes]
                needed[other] = max((int(part.max()) for part in before), default=-1)
        for kind, stretch, tables in self._dram(accesses):
            if stretch is not None and stretch.region in tables:
                at = stretch.view(tables[stretch.region])
                needed[_INDEX[kind]] = max(needed[_INDEX[kind]], int(at.max(initial=-1)))
        return needed

    def _dram(self, accesses: Accesses) -> Iterator[tuple[str, Stretch | None, Mapping[int, NDArray[np.int32]]]]:
        """Who wrote what is read, and who read what is written."""
        yield "SAVE", accesses.dram_read, self._saved
        yield "LOAD", accesses.dram_write, self._loaded

    def all_conflicts(self, accesses: Accesses, engine: int) -> set[int]:
        """Every instruction of an engine that must be done before these accesses."""
        parts = [self._written[engine][slab].ravel() for slab in (*accesses.reads, *accesses.writes)]
        parts += [self._read[engine][slab].ravel() for slab in accesses.writes]
        for kind, stretch, tables in self._dram(accesses):
            if stretch is not None and stretch.region in tables and _INDEX[kind] == engine:
                parts.append(stretch.view(tables[stretch.region]).ravel())
        found = set(np.unique(np.concatenate(parts)).tolist()) if parts else set()
        return found - {-1}

    def note(self, accesses: Accesses, engine: int, index: int) -> None:
        """Remember an instruction's accesses."""
        for slab in accesses.writes:
            self._written[engine][slab] = index
        for slab in accesses.reads:
            self._read[engine][slab] = index
        for stretch, tables in ((accesses.dram_read, self._loaded), (accesses.dram_write, self._saved)):
            if stretch is not None and stretch.region in tables:
                stretch.view(tables[stretch.region])[...] = index


def synchronise(
    instructions: Sequence[Instruction], target: Target, dram_bytes: Mapping[int, int], drains: Iterable[int] = ()
) -> list[Instruction]:
    """The same instructions with depends_on and depended_by filled in.

    `drains`: positions before which everything must be done (the first instruction of a layer, where a schedule drains
    between layers).
    """
    return _Synchroniser(instructions, target, dram_bytes, set(drains)).run()


class _Synchroniser:
    def __init__(
        self, instructions: Sequence[Instruction], target: Target, dram_bytes: Mapping[int, int], drains: set[int]
    ) -> None:
        self._instructions, self._drains = instructions, drains
        self._reader, self._trace = Reader(target), Trace(target, dram_bytes)
        self._waits = [0] * len(instructions)
        self._posts = [0] * len(instructions)
        self._done: list[Clock] = []
        """For each instruction what is known to be done once it is."""
        self._last: Clock = [-1] * len(ENGINES)
        """The last instruction of each engine so far."""
        self._drained: Clock = [-1] * len(ENGINES)

    def run(self) -> list[Instruction]:
        for index, instruction in enumerate(self._instructions):
            if index in self._drains:
                self._drained = list(self._last)
            self._take(index, instruction)
        return [self._finish(k, i) for k, i in enumerate(self._instructions)]

    def _take(self, index: int, instruction: Instruction) -> None:
        engine = _INDEX[instruction.engine]
        accesses = self._reader.accesses(instruction)
        previous = self._last[engine]
        clock = list(self._done[previous]) if previous >= 0 else [-1] * len(ENGINES)
        needed = self._trace.conflicts(accesses, engine)
        if instruction.engine == "LOAD" or instruction.name == "END":
            needed = [max(pair) for pair in zip(needed, self._drained, strict=True)]
        if instruction.name == "END":
            needed = list(self._last)
        self._wait(index, engine, needed, clock)
        clock[engine] = index
        self._done.append(clock)
        self._last[engine] = index
        self._trace.note(accesses, engine, index)

    def _wait(self, index: int, engine: int, needed: Clock, clock: Clock) -> None:
        """Take tokens, the latest first: it may imply the others."""
        for producer in sorted(needed, reverse=True):
            other = -1 if producer < 0 else _INDEX[self._instructions[producer].engine]
            if producer < 0 or other == engine or clock[other] >= producer:
                continue
            self._waits[index] |= 1 << other
            self._posts[producer] |= 1 << engine
            clock[:] = [max(pair) for pair in zip(clock, self._done[producer], strict=True)]

    def _finish(self, index: int, instruction: Instruction) -> Instruction:
        """Tokens, and the engine's own bits, which open and close a bundle."""
        own = 1 << _INDEX[instruction.engine]
        values = dict(instruction.values)
        values["depends_on"], values["depended_by"] = self._waits[index] | own, self._posts[index] | own
        return Instruction(instruction.spec, values)
