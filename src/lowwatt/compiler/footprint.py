"""Footprint: what a layer's instructions touch, the words of the banks and the bytes of DRAM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lowwatt.compiler.dram import CONSTANTS
from lowwatt.compiler.isa.window import Accesses, Reader, Stretch
from lowwatt.compiler.segment import Segment
from lowwatt.targets import Target


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a layer touches: shares of the image and weight banks' words; bytes of constants and of maps that it loads,
    how many bytes of the maps are different ones, and the number of its LOADs.
    """

    image_banks: float
    weight_banks: float
    constant_bytes: int
    map_bytes: int
    fresh_map_bytes: int
    loads: int

    @property
    def again(self) -> float:
        """How often a byte of its maps is loaded: more than once where strips overlap or chunks need it anew."""
        return self.map_bytes / self.fresh_map_bytes if self.fresh_map_bytes else 1.0


def footprints(segment: Segment, target: Target) -> list[Footprint]:
    """Footprint of each layer of an accelerator's segment."""
    reader = Reader(target)
    accesses = [reader.accesses(instruction) for instruction in segment.instructions]
    return [_footprint([accesses[k] for k in part.tolist()], target) for part in segment.positions()]


def _footprint(accesses: Sequence[Accesses], target: Target) -> Footprint:
    touched = np.zeros((target.bias_bank + 1, target.bank_depth), np.bool_)
    for one in accesses:
        for slab in (*one.reads, *one.writes):
            touched[slab] = True
    loads = [one.dram_read for one in accesses if one.dram_read is not None]
    maps = [load for load in loads if load.region != CONSTANTS]
    images, weights = target.image_banks, target.weight_banks
    return Footprint(
        float(touched[images.start : images.stop].mean()),
        float(touched[weights.start : weights.stop].mean()),
        sum(load.bytes for load in loads if load.region == CONSTANTS),
        sum(load.bytes for load in maps),
        sum(_different(part) for part in _by_region(maps)),
        len(loads),
    )


def _by_region(loads: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    for region in sorted({load.region for load in loads}):
        yield [load for load in loads if load.region == region]


def _different(loads: Sequence[Stretch]) -> int:
    """Bytes of a region that are read at least once."""
    first = min(load.start for load in loads)
    seen = np.zeros(max(load.stop for load in loads) - first, np.bool_)
    for load in loads:
        pieces = load.start - first + load.step * np.arange(load.count)
        seen[np.add.outer(pieces, np.arange(load.width))] = True
    return int(seen.sum())
