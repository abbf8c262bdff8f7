"""Time of a program: its own instruction words run on four in-order engines that wait for each other by tokens.

An instruction starts when its engine is free and its tokens are there, and takes what the target's costs say of its
fields (docs/dpu.md 5.1). So estimate and program cannot drift apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa import ENGINES, Instruction
from lowwatt.compiler.isa.window import INIT_OF
from lowwatt.errors import ToolError
from lowwatt.targets import Costs, Target

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Work:
    """What each instruction of a program does, apart from what that costs: engine, cycles of work, bytes moved.

    `tokens`: for each instruction those that must be done before it, besides the one before it on its engine.
    """

    engines: NDArray[np.int8]
    cycles: Numbers
    bytes: Numbers
    counts: NDArray[np.bool_]
    tokens: Sequence[tuple[int, ...]]


def work_of(instructions: Sequence[Instruction]) -> Work:
    """Work of a program's instructions; ToolError where an instruction takes a token that nobody posts before it."""
    engines = np.array([ENGINES.index(i.engine) for i in instructions], np.int8)
    inits: dict[str, Instruction] = {}
    cycles, sizes = np.zeros(len(instructions)), np.zeros(len(instructions))
    counts = np.zeros(len(instructions), bool)
    for index, one in enumerate(instructions):
        if one.name.endswith("INIT"):
            inits[one.name] = one
        elif one.name in ("LOAD", "SAVE"):
            sizes[index], counts[index] = one.numbers["length"] * one.numbers["channel"], True
        elif one.name != "END":
            cycles[index], counts[index] = _cycles(one, inits), True
    return Work(engines, cycles, sizes, counts, _tokens(instructions))


def _cycles(one: Instruction, inits: dict[str, Instruction]) -> int:
    """Cycles of an instruction on CONV or MISC: pixel groups times kernel positions, or further operands."""
    n = one.numbers
    if one.name == "ELEW":
        return n["length"] * n["channel_group"] * max(1, n["num"] - 1)
    n = {**inits[INIT_OF[one.name]].numbers, **n}
    return n["length"] * n["channel_group"] * n["kernel_h"] * n["kernel_w"]


def _tokens(instructions: Sequence[Instruction]) -> list[tuple[int, ...]]:
    """Which instruction posted each token that is taken: tokens of a pair of engines are taken in the order posted."""
    posted: dict[tuple[str, str], deque[int]] = {(a, b): deque() for a in ENGINES for b in ENGINES}
    found = []
    for index, one in enumerate(instructions):
        takes = []
        for other in one.depends_on:
            if other != one.engine:
                queue = posted[other, one.engine]
                if not queue:
                    raise ToolError(
                        "an instruction takes a token that nobody posts before it",
                        where=f"instruction {index} ({one.name})",
                        why=f"from {other}",
                    )
                takes.append(queue.popleft())
        found.append(tuple(takes))
        for other in one.depended_by:
            if other != one.engine:
                posted[one.engine, other].append(index)
    return found


@dataclass(frozen=True, slots=True)
class Times:
    """Start, end and duration of each instruction, in nanoseconds."""

    start: Numbers
    end: Numbers
    duration: Numbers

    @property
    def total(self) -> float:
        """Nanoseconds of the whole program."""
        return float(self.end.max(initial=0.0))


def durations(work: Work, costs: Costs, cycle_ns: float) -> Numbers:
    """Nanoseconds of each instruction alone."""
    fixed = np.array(
        [
            costs.load_ns + costs.load_cycles * cycle_ns,
            costs.save_ns + costs.save_cycles * cycle_ns,
            costs.conv_cycles * cycle_ns,
            costs.misc_cycles * cycle_ns,
        ]
    )
    a_byte = np.array([1 / costs.load_gb_s, 1 / costs.save_gb_s, 0.0, 0.0])
    engines = work.engines
    found: Numbers = work.counts * fixed[engines] + work.bytes * a_byte[engines] + work.cycles * cycle_ns
    return found


def run(work: Work, costs: Costs, cycle_ns: float) -> Times:
    """When each instruction runs."""
    duration = durations(work, costs, cycle_ns)
    start, end = np.zeros(len(duration)), [0.0] * len(duration)
    free = [0.0] * len(ENGINES)
    engines, lengths = work.engines.tolist(), duration.tolist()
    for index, engine in enumerate(engines):
        begin = free[engine]
        for token in work.tokens[index]:
            if end[token] > begin:
                begin = end[token]
        start[index] = begin
        end[index] = free[engine] = begin + lengths[index]
    return Times(start, np.array(end), duration)


def time_program(instructions: Sequence[Instruction], target: Target) -> Times:
    """When each instruction of a program runs on a machine."""
    return run(work_of(instructions), target.costs, target.cycle_ns)
