"""Order of LOADs: what can be loaded now goes before what must wait.

LOAD works in order, so a row that waits for the layer before holds up the weights behind it. This pass simulates the
program and lets LOAD always take the first of its instructions that is free to start; the other engines keep their
order. The result is the same program in another order, in which each instruction still comes after all that it needs.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from lowwatt.compiler.clock import durations, work_of
from lowwatt.compiler.isa import ENGINES, Instruction
from lowwatt.compiler.isa.window import Accesses, Reader
from lowwatt.compiler.synchronise import Trace
from lowwatt.targets import Target

_LOAD = ENGINES.index("LOAD")


def order_loads(instructions: Sequence[Instruction], target: Target, dram_bytes: Mapping[int, int]) -> list[int]:
    """Positions of the instructions in their new order."""
    needs = _needs(instructions, target, dram_bytes)
    lengths = durations(work_of(instructions), target.costs, target.cycle_ns).tolist()
    engines = [ENGINES.index(instruction.engine) for instruction in instructions]
    return _Simulation(engines, lengths, needs).run()


def _needs(instructions: Sequence[Instruction], target: Target, dram_bytes: Mapping[int, int]) -> list[list[int]]:
    """For each instruction those that must be done before it, apart from the order of its own engine."""
    reader, trace = Reader(target), Trace(target, dram_bytes)
    found = []
    for index, instruction in enumerate(instructions):
        accesses, engine = reader.accesses(instruction), ENGINES.index(instruction.engine)
        found.append(_before(trace, accesses, engine))
        trace.note(accesses, engine, index)
    return found


def _before(trace: Trace, accesses: Accesses, engine: int) -> list[int]:
    """Of engines in order the last conflict stands for all before it; of LOAD each counts."""
    last = [k for k in trace.conflicts(accesses, engine) if k >= 0]
    return sorted({*last, *trace.all_conflicts(accesses, _LOAD)})


class _Simulation:
    """Events in the order of their start; an instruction is available once all that it needs have been placed."""

    def __init__(self, engines: list[int], lengths: list[float], needs: list[list[int]]) -> None:
        self._engines, self._lengths = engines, lengths
        self._missing = [len(need) for need in needs]
        self._readers: list[list[int]] = [[] for _ in engines]
        for index, need in enumerate(needs):
            for other in need:
                self._readers[other].append(index)
        self._ready = [0.0] * len(engines)
        self._queues = [[k for k, e in enumerate(engines) if e == engine] for engine in range(len(ENGINES))]
        self._heads = [0] * len(ENGINES)
        self._free = [0.0] * len(ENGINES)
        # available LOADs: those that can start, by position, and those that cannot yet, by time
        self._now: list[int] = []
        self._later: list[tuple[float, int]] = []
        for index in self._queues[_LOAD]:
            if not self._missing[index]:
                heapq.heappush(self._now, index)

    def run(self) -> list[int]:
        order = []
        for _ in self._engines:
            start, index = min(filter(None, (self._next(engine) for engine in range(len(ENGINES)))))
            self._place(start, index)
            order.append(index)
        return order

    def _next(self, engine: int) -> tuple[float, int] | None:
        """When an engine starts its next instruction, and which."""
        if engine == _LOAD:
            return self._next_load()
        if self._heads[engine] == len(self._queues[engine]):
            return None
        index = self._queues[engine][self._heads[engine]]
        return None if self._missing[index] else (max(self._free[engine], self._ready[index]), index)

    def _next_load(self) -> tuple[float, int] | None:
        while self._later and self._later[0][0] <= self._free[_LOAD]:
            heapq.heappush(self._now, heapq.heappop(self._later)[1])
        if self._now:
            return self._free[_LOAD], self._now[0]
        return self._later[0] if self._later else None

    def _place(self, start: float, index: int) -> None:
        engine = self._engines[index]
        if engine == _LOAD:
            if self._now:
                heapq.heappop(self._now)
            else:
                heapq.heappop(self._later)
        else:
            self._heads[engine] += 1
        end = self._free[engine] = start + self._lengths[index]
        for reader in self._readers[index]:
            self._ready[reader] = max(self._ready[reader], end)
            self._missing[reader] -= 1
            if not self._missing[reader] and self._engines[reader] == _LOAD:
                heapq.heappush(self._later, (self._ready[reader], reader))
