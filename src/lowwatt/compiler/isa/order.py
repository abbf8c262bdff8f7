"""Orders in which the engines may execute a program: each its own instructions in order, waiting for tokens alone.

Token number n of a pair of engines is taken by whoever takes the n-th: both engines work in order, so which instruction
posted it does not depend on time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lowwatt.compiler.isa.instruction import Instruction
from lowwatt.compiler.isa.table import ENGINES

Pair = tuple[int, int]
"""Engine that posts, engine that takes, as positions in ENGINES."""


@dataclass(slots=True)
class Order:
    """`indices`: instructions in an order of execution. `posters`: for each instruction, whose tokens it took.

    `stuck`: the first instruction of each engine that never starts. `left`: tokens that nobody took.
    """

    indices: list[int] = field(default_factory=list)
    posters: dict[int, tuple[int, ...]] = field(default_factory=dict)
    stuck: list[int] = field(default_factory=list)
    left: Counter[Pair] = field(default_factory=Counter)


def legal_order(instructions: Sequence[Instruction], choose: Callable[[list[int]], int] = min) -> Order:
    """One order that the tokens allow: `choose` picks the next of the instructions that can start.

    `min` keeps to the program's order as far as it is one.
    """
    return _Engines(instructions).run(choose)


class _Engines:
    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self._takes = [_others(one, one.depends_on) for one in instructions]
        self._posts = [_others(one, one.depended_by) for one in instructions]
        self._engines = [ENGINES.index(one.engine) for one in instructions]
        self._queues: list[deque[int]] = [deque() for _ in ENGINES]
        for index, engine in enumerate(self._engines):
            self._queues[engine].append(index)
        self._tokens: dict[Pair, deque[int]] = {(a, b): deque() for a in range(4) for b in range(4)}

    def run(self, choose: Callable[[list[int]], int]) -> Order:
        order = Order()
        while ready := [queue[0] for queue in self._queues if queue and self._can_start(queue[0])]:
            index = choose(ready)
            self._execute(index, order)
        order.stuck = [queue[0] for queue in self._queues if queue]
        order.left = Counter({pair: len(tokens) for pair, tokens in self._tokens.items() if tokens})
        return order

    def _can_start(self, index: int) -> bool:
        engine = self._engines[index]
        return all(self._tokens[other, engine] for other in self._takes[index])

    def _execute(self, index: int, order: Order) -> None:
        engine = self._engines[index]
        order.posters[index] = tuple(self._tokens[other, engine].popleft() for other in self._takes[index])
        for other in self._posts[index]:
            self._tokens[engine, other].append(index)
        self._queues[engine].popleft()
        order.indices.append(index)


def _others(instruction: Instruction, engines: Sequence[str]) -> tuple[int, ...]:
    """Of a mask the engines beside the instruction's own, whose bit is no token."""
    return tuple(ENGINES.index(engine) for engine in engines if engine != instruction.engine)
