"""Memories of a simulated DPUCZDX8G: banks and DRAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa.window import Stretch
from lowwatt.errors import ToolError
from lowwatt.targets import Target

Bytes = NDArray[np.int8]
Words = slice | NDArray[np.int64]


class Memory:
    """Banks [bank, word, lane] and DRAM by register; `defined` says which words were ever written.

    `sizes`: bytes of each register; `held`: what a register holds from the start (the constants).
    """

    def __init__(self, target: Target, sizes: Mapping[int, int], held: Mapping[int, bytes] | None = None) -> None:
        self.target = target
        shape = (target.bias_bank + 1, target.bank_depth, target.array.input_channels)
        self.banks: Bytes = np.zeros(shape, np.int8)
        self.defined = np.zeros(shape[:2], bool)
        self.dram: dict[int, Bytes] = {register: np.zeros(size, np.int8) for register, size in sizes.items()}
        for register, data in (held or {}).items():
            self.dram[register][: len(data)] = np.frombuffer(data, np.int8)

    def stretch(self, stretch: Stretch) -> Bytes:
        """View [count, width] of some bytes of DRAM; ToolError where they lie outside their region."""
        return stretch.view(self.dram.get(stretch.region, np.zeros(0, np.int8)))

    def map(self, register: int, address: int, shape: Sequence[int], stride: Sequence[int]) -> Bytes:
        """View of a map's bytes, `stride` apart along each axis; ToolError where they lie outside their region."""
        last = address + sum((count - 1) * step for count, step in zip(shape, stride, strict=True))
        region = self.stretch(Stretch(register, address, 1, 1, last + 1 - address))[0]
        return np.lib.stride_tricks.as_strided(region, shape, stride)

    def words(self, start: int, count: int, jump: int, width: int) -> Words:
        """Words of a bank: `width` of each of `count` pixels, `jump` apart; they go round at the bank's end."""
        return _words(start % self.target.bank_depth, count, jump, width, self.target.bank_depth)

    def read(self, banks: slice, words: Words) -> Bytes:
        """Words [bank, word, lane] of neighbouring banks; ToolError where there is no such bank, or nothing written."""
        self._check(banks)
        there = self.defined[banks, words]
        if not there.all():
            bank, word = np.argwhere(~there)[0].tolist()
            first = words.start + word if isinstance(words, slice) else int(words[word])
            why = f"word {first} of bank {banks.start + bank}"
            raise ToolError("an instruction reads a word that nothing was written to", why=why)
        return self.banks[banks, words]

    def write(self, banks: slice, words: Words, values: Bytes) -> None:
        """Write [bank, word, lane]; ToolError where there is no such bank."""
        self._check(banks)
        self.banks[banks, words] = values
        self.defined[banks, words] = True

    def _check(self, banks: slice) -> None:
        if not 0 <= banks.start < banks.stop <= len(self.banks):
            raise ToolError("there is no such bank", why=f"bank {banks.stop - 1} of {len(self.banks)}")


@lru_cache(maxsize=1024)
def _words(start: int, count: int, jump: int, width: int, depth: int) -> Words:
    """One slice where they follow one another, else their numbers."""
    stop = start + (count - 1) * jump + width
    if stop <= depth and (width == jump or count == 1):
        return slice(start, stop)
    found = (start + np.arange(count)[:, None] * jump + np.arange(width)).ravel() % depth
    found.flags.writeable = False
    return found
