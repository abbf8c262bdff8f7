"""Tokens between the engines: do as many arrive as are waited for, and does the program run through?

An instruction takes one token from every engine in depends_on before it starts and posts one to every engine in
depended_by when it is done. Its own engine in its masks is no token: in depends_on it opens, in depended_by it closes a
bundle, which is one instruction or two SAVEs on the two ports (docs/dpu.md 8.2). Counted alike, bundles balance too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lowwatt.compiler.isa.instruction import Instruction
from lowwatt.compiler.isa.order import legal_order
from lowwatt.compiler.isa.table import ENGINES

Pair = tuple[str, str]
"""Engine that posts, engine that takes."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one pair of engines over a whole program."""

    posted: int
    taken: int

    @property
    def balanced(self) -> bool:
        """As many posted as taken."""
        return self.posted == self.taken


def balance(instructions: Sequence[Instruction]) -> dict[Pair, Tokens]:
    """Tokens by (producer, consumer), for the pairs that have any.

    >>> balance([])
    {}
    """
    posted: Counter[Pair] = Counter()
    taken: Counter[Pair] = Counter()
    for instruction in instructions:
        posted.update((instruction.engine, other) for other in instruction.depended_by)
        taken.update((other, instruction.engine) for other in instruction.depends_on)
    pairs = [(producer, consumer) for producer in ENGINES for consumer in ENGINES]
    return {pair: Tokens(posted[pair], taken[pair]) for pair in pairs if posted[pair] or taken[pair]}


def first_stuck(instructions: Sequence[Instruction]) -> int | None:
    """Index of the first instruction that can never start, or None.

    Engines execute their instructions in order; time plays no part, as tokens only count up while an engine waits.
    """
    return min(legal_order(instructions).stuck, default=None)
