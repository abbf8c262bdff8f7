"""Memories of a simulated DPUCZDX8G: banks and DRAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa.window import Stretch
from lowwatt.errors import ToolError
from lowwatt.targets import Target

Bytes = NDArray[np.int8]


class Memory:
    """Banks [bank, word, lane] and DRAM by register; `defined` says which words were ever written."""

    def __init__(self, target: Target, sizes: Mapping[int, int]) -> None:
        self.target = target
        shape = (target.bias_bank + 1, target.bank_depth, target.array.input_channels)
        self.banks: Bytes = np.zeros(shape, np.int8)
        self.defined = np.zeros(shape[:2], bool)
        self.dram: dict[int, Bytes] = {register: np.zeros(size, np.int8) for register, size in sizes.items()}

    def stretch(self, stretch: Stretch) -> Bytes:
        """View [count, width] of some bytes of DRAM; ToolError where they lie outside their region."""
        region = self.dram.get(stretch.region)
        size = 0 if region is None else len(region)
        if region is None or stretch.start < 0 or stretch.stop > size:
            raise ToolError(
                "an address lies outside its region of DRAM",
                why=f"bytes {stretch.start} to {stretch.stop - 1} of register {stretch.region}, which has {size}",
            )
        return np.lib.stride_tricks.as_strided(
            region[stretch.start :], (stretch.count, stretch.width), (stretch.step, 1)
        )

    def map(self, register: int, address: int, shape: Sequence[int], stride: Sequence[int]) -> Bytes:
        """View of a map's bytes, `stride` apart along each axis; ToolError where they lie outside their region."""
        last = address + sum((count - 1) * step for count, step in zip(shape, stride, strict=True))
        region = self.stretch(Stretch(register, address, 1, 1, last + 1 - address))[0]
        return np.lib.stride_tricks.as_strided(region, shape, stride)

    def words(self, bank: int, start: int, count: int, jump: int, width: int) -> NDArray[np.int64]:
        """Word numbers [count, width] in a bank, which go round at its end."""
        if not 0 <= bank < len(self.banks):
            raise ToolError("there is no such bank", why=f"bank {bank} of {len(self.banks)}")
        return (start + np.arange(count)[:, None] * jump + np.arange(width)) % self.target.bank_depth
