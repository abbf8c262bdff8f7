"""The core of a machine: its array, instruction set, image groups and options, apart from any board that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.records import AtLeast

Count = Annotated[int, AtLeast(1)]


@dataclass(frozen=True, slots=True)
class Array:
    """The convolution array: pixels (output rows) x input channels x output channels a cycle.

    >>> Array("B2304", 8, 12, 12).macs_per_cycle
    1152
    """

    name: str
    pixels: Count
    input_channels: Count
    output_channels: Count

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates a clock cycle; the name counts twice as many operations."""
        return self.pixels * self.input_channels * self.output_channels


ARRAYS = (
    Array("B512", 4, 8, 8),
    Array("B800", 4, 10, 10),
    Array("B1024", 8, 8, 8),
    Array("B1152", 4, 12, 12),
    Array("B1600", 8, 10, 10),
    Array("B2304", 8, 12, 12),
    Array("B3136", 8, 14, 14),
    Array("B4096", 8, 16, 16),
)
"""The sizes in which the core is built (docs/dpu.md 1.1), in the order in which fingerprints count them."""


def array_named(name: str) -> Array:
    """Array by its name; ToolError with the nearest known one.

    >>> array_named("B1152").pixels
    4
    """
    for array in ARRAYS:
        if array.name == name:
            return array
    raise ToolError(f"unknown array {name}", hint=did_you_mean(name, [array.name for array in ARRAYS]))


@dataclass(frozen=True, slots=True)
class Options:
    """What was switched on when the core was built (docs/dpu.md 1.2 and 1.3).

    `pool_rows`, `depthwise_rows`, `eltwise_rows`: rows that the MISC engine works on at once; on ISA1 one ALU does all
    three. `augmentation`: few input channels are packed together with the kernel's columns. `depthwise_leaky_relu`
    and `save_argmax` exist on ISA1 alone.
    """

    augmentation: bool = False
    leaky_relu: bool = True
    relu6: bool = True
    average_pool: bool = True
    depthwise: bool = True
    depthwise_relu6: bool = True
    eltwise_mul: bool = False
    max_reduce: bool = True
    pool_rows: Count = 4
    depthwise_rows: Count = 4
    eltwise_rows: Count = 1
    depthwise_leaky_relu: bool = False
    save_argmax: bool = False


def alu_options(rows: int, **chosen: bool) -> Options:
    """Options of an ISA1 core: what its ALU always does, on so many rows, and what was chosen when the core was built.

    Source: Vitis-AI v3.5, target_factory/src/create_target_DPUCZDX8G_ISA1.cpp.
    """
    return Options(eltwise_mul=True, pool_rows=rows, depthwise_rows=rows, eltwise_rows=rows, **chosen)


@dataclass(frozen=True, slots=True)
class Core:
    """One DPUCZDX8G, wherever it is built in. Two cores with one fingerprint run each other's programs."""

    array: Array
    isa: Literal[0, 1]
    image_groups: Literal[2, 3]
    options: Options
