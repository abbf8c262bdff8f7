"""How far a runtime's outputs are from the integer reference, counted in steps of each output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array

LAST_BITS = 2.0**-8
"""Share of a step by which float32 sums in another order may differ."""

FLOAT_BITS = 8
"""A float output has as many steps between zero and its greatest value as integers of so many bits: 127."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Elements compared, how many differ at all and by more than one step, and the most that one differs, in steps."""

    elements: int = 0
    differ: int = 0
    beyond: int = 0
    greatest: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        """Both counted together."""
        counts = (self.elements + other.elements, self.differ + other.differ, self.beyond + other.beyond)
        return Agreement(*counts, max(self.greatest, other.greatest))

    def share(self, count: int) -> float:
        """Part of the elements that `count` of them are; 0 where nothing was compared."""
        return count / max(1, self.elements)

    def __str__(self) -> str:
        if not self.differ:
            return f"{self.elements} elements, 0 differ"
        differ, beyond = self.share(self.differ), self.share(self.beyond)
        rest = f"{beyond:.2%} by more than one step, at most {self.greatest}"
        return f"{self.elements} elements, {differ:.2%} differ, {rest}"


def compare(tensor: Tensor, found: Array, wanted: Array, bits: int = FLOAT_BITS) -> Agreement:
    """Real values of a runtime against what the reference gives for the tensor: integers, or float32; equal layouts."""
    apart = steps_apart(tensor, found, wanted, bits)
    greatest = round(float(apart.max(initial=0)))
    beyond = np.count_nonzero(apart > 1 + LAST_BITS)
    return Agreement(apart.size, int(np.count_nonzero(apart)), int(beyond), greatest)


def compare_outputs(graph: Graph, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> Agreement:
    """All outputs of a backend against the reference's: both raw integers where quantized, equal layouts."""
    outputs = (graph.tensor(name) for name in graph.outputs)
    return sum((compare_raw(one, found[one.name], wanted[one.name]) for one in outputs), Agreement())


def compare_raw(tensor: Tensor, found: Array, wanted: Array) -> Agreement:
    """As `compare`, where a backend gives raw integers of a quantized tensor, too."""
    return compare(tensor, found if tensor.quant is None else tensor.quant.dequantize(found), wanted)


def steps_apart(tensor: Tensor, found: Array, wanted: Array, bits: int = FLOAT_BITS) -> Array:
    """Difference of each element in steps; none where only the last bits err. `bits` say how fine a float output is."""
    real = found.astype(np.float64)
    if tensor.quant is not None:
        apart = np.abs(real / tensor.quant.step(real.ndim) + tensor.quant.zero_point - wanted)
    else:
        apart = np.abs(real - wanted) * ((1 << (bits - 1)) - 1) / max(float(np.abs(wanted).max(initial=0)), 1e-30)
    return np.where(apart < LAST_BITS, 0.0, apart)
