"""Is a program safe? What its words read and write, against what its tokens order, found from the words alone.

Engines wait for each other by tokens and nothing else. So an instruction knows, by the tokens it took and by its
engine's order, which instructions of the others are done before it starts (a vector clock). What is looked for:

* tokens: an instruction that waits for one that never comes, tokens that nobody takes;
* races: two accesses of one word of a bank or byte of DRAM by two engines, one of them a write, that no token orders;
* words and bytes that are read and that nothing wrote, or that another layer left behind;
* results that nobody reads, loaded data that is overwritten before anyone read it;
* banks, words and bytes that there are not, writes to constants and inputs, outputs that are not saved whole.

What an instruction reads and writes is `compiler.isa.window`'s, which the vendor's programs confirm (docs/dpu.md 8.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.dram import CONSTANTS, INPUTS, Region
from lowwatt.compiler.isa import ENGINES, ISA0, ISA1, Instruction, Order, decode, legal_order, text
from lowwatt.compiler.isa.table import WORD_BYTES
from lowwatt.compiler.isa.window import Accesses, Reader, Slab, Stretch
from lowwatt.compiler.segment import Segment
from lowwatt.targets import Target

_NEVER = -1
_ENGINES = range(len(ENGINES))
Table = NDArray[np.int32]
"""By word or byte the position of an instruction, or _NEVER."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """One finding: `kind`, the instruction, the one that it conflicts with (None: with none), and all in words."""

    kind: str
    instruction: int
    other: int | None
    message: str


def find_hazards(segment: Segment, target: Target) -> list[Hazard]:
    """Hazards of a segment's own words; [] for a safe program."""
    layers, dram = [segment.layers[owner].name for owner in segment.owners], segment.dram
    outputs = {name: dram.regions[name] for name in segment.graph.outputs}
    return check(decode(segment.code, (ISA0, ISA1)[target.isa]), target, dram.sizes, layers, outputs)


def check(
    instructions: Sequence[Instruction],
    target: Target,
    sizes: Mapping[int, int],
    layers: Sequence[str] = (),
    outputs: Mapping[str, Region] | None = None,
) -> list[Hazard]:
    """Hazards of a program. `sizes`: bytes of DRAM by register. `outputs`: maps that must be saved whole.

    `layers`: the layer of each instruction, if known; only then is data that another layer left in the banks a finding
    (the vendor's second compiler keeps maps there).
    """
    one = _Check(instructions, target, sizes, layers)
    return [*one.run(), *one.unsaved(outputs or {})]


class _Check:
    def __init__(
        self, instructions: Sequence[Instruction], target: Target, sizes: Mapping[int, int], layers: Sequence[str]
    ) -> None:
        self._instructions, self._target, self._layers = instructions, target, layers
        self._engines = np.array([ENGINES.index(one.engine) for one in instructions], np.int8)
        self._offsets = np.cumsum([0, *(one.spec.length * WORD_BYTES for one in instructions)])
        banks = (target.bias_bank + 1, target.bank_depth)
        self._written: Table = np.full(banks, _NEVER, np.int32)
        self._read: list[Table] = [np.full(banks, _NEVER, np.int32) for _ in _ENGINES]
        self._saved: dict[int, Table] = {register: np.full(size, _NEVER, np.int32) for register, size in sizes.items()}
        self._loaded = {register: table.copy() for register, table in self._saved.items()}
        self._used = np.zeros(len(instructions), bool)
        """Of each write, whether anybody read any of it."""
        self._wrote: list[int] = []
        """Instructions that write to the banks."""
        self._over: dict[int, int] = {}
        """What overwrote each of these first."""

    def run(self) -> Iterator[Hazard]:
        order, reader = legal_order(self._instructions), Reader(self._target)
        clocks = self._clocks(order)
        for index in order.indices:
            try:
                accesses = reader.accesses(self._instructions[index])
            except KeyError:
                yield self._hazard("stands before its INIT", index)
                continue
            outside = list(self._outside(index, accesses))
            yield from outside or self._visit(index, accesses, clocks[index])
        yield from self._tokens(order)
        yield from self._unread()

    def _visit(self, index: int, accesses: Accesses, clock: Sequence[int]) -> Iterator[Hazard]:
        for slab in accesses.reads:
            yield from self._reads(index, slab, clock)
        for slab in accesses.writes:
            yield from self._writes(index, slab, clock)
        if accesses.dram_read is not None:
            yield from self._loads(index, accesses.dram_read, clock)
        if accesses.dram_write is not None:
            yield from self._saves(index, accesses.dram_write, clock)
        if accesses.writes:
            self._wrote.append(index)

    # -- tokens -------------------------------------------------------------------------------------------------

    def _clocks(self, order: Order) -> dict[int, list[int]]:
        """For each instruction the last one of each engine that is done when it starts."""
        last: list[int] = [_NEVER] * len(ENGINES)
        known: dict[int, list[int]] = {}
        for index in order.indices:
            engine = int(self._engines[index])
            before = [k for k in (last[engine], *order.posters[index]) if k != _NEVER]
            clock = [max((known[k][e] for k in before), default=_NEVER) for e in _ENGINES]
            for k in before:
                clock[self._engines[k]] = max(clock[self._engines[k]], k)
            known[index] = clock
            last[engine] = index
        return known

    def _tokens(self, order: Order) -> Iterator[Hazard]:
        for index in order.stuck:
            yield self._hazard("waits for a token that never comes", index)
        for (producer, consumer), count in order.left.items():
            latest = int(np.flatnonzero(self._engines == producer)[-1])
            kind = f"{count} tokens from {ENGINES[producer]} to {ENGINES[consumer]} that nobody takes"
            yield self._hazard(kind, latest)

    # -- banks --------------------------------------------------------------------------------------------------

    def _reads(self, index: int, slab: Slab, clock: Sequence[int]) -> Iterator[Hazard]:
        slab = self._lanes(slab)
        writers = np.unique(self._written[slab])
        if writers[0] == _NEVER:
            yield self._hazard("reads words that nothing wrote", index)
            writers = writers[1:]
        yield from self._unordered("reads before it is written", index, writers, clock)
        self._used[writers] = True
        self._read[self._engines[index]][slab] = index
        for writer in writers.tolist():
            if self._layers and self._layers[writer] != self._layers[index]:
                yield self._hazard("reads what another layer left", index, writer)

    def _lanes(self, slab: Slab) -> Slab:
        """Of the weights, the banks of output channels that the layer has: those that were loaded since lane 0's. The
        others hold older weights, whose sums nobody saves."""
        weights = self._target.weight_banks
        if slab[0].start != weights.start:
            return slab
        latest = self._written[slab].max(axis=1)
        absent = np.flatnonzero(latest < latest[0])
        return (slice(weights.start, weights.start + int(absent[0])), slab[1]) if len(absent) else slab

    def _writes(self, index: int, slab: Slab, clock: Sequence[int]) -> Iterator[Hazard]:
        before = np.unique(self._written[slab])
        before = before[before != _NEVER]
        yield from self._unordered("writes while another writes", index, before, clock)
        for table in self._read:
            latest = table[slab].max()
            if latest != _NEVER:
                yield from self._unordered("writes while another reads", index, [int(latest)], clock)
        for writer in before.tolist():
            self._over.setdefault(writer, index)
        self._written[slab] = index

    def _unordered(self, kind: str, index: int, others: Iterable[int], clock: Sequence[int]) -> Iterator[Hazard]:
        own = self._engines[index]
        for other in others:
            engine = self._engines[other]
            if engine != own and clock[engine] < other:
                yield self._hazard(kind, index, int(other))

    # -- DRAM ---------------------------------------------------------------------------------------------------

    def _loads(self, index: int, stretch: Stretch, clock: Sequence[int]) -> Iterator[Hazard]:
        if stretch.region in (CONSTANTS, INPUTS):
            return
        places = _places(stretch)
        writers = np.unique(self._saved[stretch.region][places])
        if writers[0] == _NEVER:
            yield self._hazard("loads bytes that nothing saved", index)
            writers = writers[1:]
        yield from self._unordered("loads before it is saved", index, writers, clock)
        self._loaded[stretch.region][places] = index

    def _saves(self, index: int, stretch: Stretch, clock: Sequence[int]) -> Iterator[Hazard]:
        if stretch.region in (CONSTANTS, INPUTS):
            yield self._hazard("saves over constants or inputs", index)
            return
        places = _places(stretch)
        latest = int(self._loaded[stretch.region][places].max())
        if latest != _NEVER:
            yield from self._unordered("saves while another loads", index, [latest], clock)
        self._saved[stretch.region][places] = index

    # -- what is outside, unread, unsaved -----------------------------------------------------------------------

    def _outside(self, index: int, accesses: Accesses) -> Iterator[Hazard]:
        """Banks, words and bytes that there are not. Words go round at a bank's end; addresses are within it."""
        banks, depth = len(self._written), self._target.bank_depth
        for name, number in self._instructions[index].numbers.items():
            if name.startswith("bank_addr") and number >= depth:
                yield self._hazard(f"{name} {number} is outside a bank, which has {depth} words", index)
        last = max((slab[0].stop - 1 for slab in (*accesses.reads, *accesses.writes)), default=0)
        if last >= banks:
            yield self._hazard(f"bank {last} is not there, of {banks}", index)
        for one in (accesses.dram_read, accesses.dram_write):
            size = 0 if one is None else len(self._saved.get(one.region, ()))
            if one is not None and (one.start < 0 or one.stop > size):
                kind = f"bytes {one.start} to {one.stop - 1} are outside register {one.region}, which has {size}"
                yield self._hazard(kind, index)

    def _unread(self) -> Iterator[Hazard]:
        """Results and parameters that nobody reads, and rows that their own layer overwrote unread. A row brought
        for no window costs time alone."""
        for index in self._wrote:
            one, over = self._instructions[index], self._over.get(index)
            row = one.name == "LOAD" and one.values["bank_id"] < self._target.weight_banks.start
            own = over is not None and bool(self._layers) and self._layers[index] == self._layers[over]
            if not self._used[index] and (own or not row):
                yield self._hazard("writes what nobody reads", index, over)

    def unsaved(self, outputs: Mapping[str, Region]) -> Iterator[Hazard]:
        """Maps that are not in DRAM whole when the program has run."""
        for name, region in outputs.items():
            rows, pixels, channels = (np.arange(n) for n in (region.height, region.width, region.channels))
            places = rows[:, None] * region.row_bytes + pixels * region.pixel_bytes
            found = self._saved[region.register][(region.address + places[..., None] + channels).ravel()]
            if missing := int((found == _NEVER).sum()):
                yield self._hazard(f"{missing} bytes of {name} are never saved", len(self._instructions) - 1)

    def _hazard(self, kind: str, index: int, other: int | None = None) -> Hazard:
        against = "" if other is None else f"; against {self._said(other)}"
        return Hazard(kind, index, other, f"{kind}: {self._said(index)}{against}")

    def _said(self, index: int) -> str:
        layer = f" of layer {self._layers[index]}" if self._layers else ""
        return f"instruction {index} at byte {self._offsets[index]:#x}{layer}: {text(self._instructions[index])}"


def _places(stretch: Stretch) -> NDArray[np.int64]:
    """Bytes of a stretch."""
    starts = stretch.start + np.arange(stretch.count) * stretch.step
    return (starts[:, None] + np.arange(stretch.width)).ravel()
