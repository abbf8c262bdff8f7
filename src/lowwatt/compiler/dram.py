"""DRAM as a program sees it: regions by register, where each feature map and each constant lies.

Registers as in the vendor's files (docs/dpu.md 4.6): 0 constants, 1 workspace, 2 inputs, 3 outputs. Maps are NHWC, one
byte an element, without gaps; a member of a concat lies in the concat's own map, between the channels of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lowwatt.compiler.subject import FeatureMap

CONSTANTS, WORKSPACE, INPUTS, OUTPUTS = range(4)


@dataclass(frozen=True, slots=True)
class Region:
    """One map in DRAM: where its first byte is, and how far its pixels and rows are apart, in bytes."""

    register: int
    address: int
    height: int
    width: int
    channels: int
    pixel_bytes: int
    row_bytes: int
    last: int | None = None
    """Greatest distance of a row from the first, in bytes: further ones are moved back to there (`stretches`)."""

    @classmethod
    def dense(cls, register: int, address: int, size: FeatureMap) -> Region:
        """A map without gaps."""
        pixel, row = size.channels, size.channels * size.width
        return cls(register, address, size.height, size.width, size.channels, pixel, row)

    @property
    def is_dense(self) -> bool:
        """True where all its bytes follow one another."""
        return self.pixel_bytes == self.channels and self.row_bytes == self.width * self.pixel_bytes

    @property
    def bytes(self) -> int:
        """Bytes of its elements."""
        return self.height * self.width * self.channels

    def at(self, row: int, column: int, channel: int = 0) -> int:
        """Address of an element."""
        down = row * self.row_bytes
        if self.last is not None:
            down = min(down, self.last)
        return self.address + down + column * self.pixel_bytes + channel

    def part(self, channel: int, channels: int) -> Region:
        """Some of its channels."""
        return replace(self, address=self.address + channel, channels=channels)

    def stretches(self, height: int, width: int) -> Region:
        """The same pixels cut into rows of another width; the last rows are moved back so that all are full."""
        rest = self.height * self.width - width
        row = width * self.pixel_bytes
        return replace(self, height=height, width=width, row_bytes=row, last=rest * self.pixel_bytes)

    def shaped(self, size: FeatureMap) -> Region:
        """The same bytes as a map of another shape."""
        return Region.dense(self.register, self.address, size)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A block of the workspace: its bytes, and the first and last step at which somebody needs it."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """True where both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def allocate(blocks: Iterable[Lifetime], alignment: int = 16) -> tuple[dict[str, int], int]:
    """Address of each block, and the bytes of all: the largest first, each at the lowest address that is free for it.

    >>> allocate([Lifetime("a", 32, 0, 1), Lifetime("b", 16, 1, 2), Lifetime("c", 32, 2, 3)])
    ({'a': 0, 'c': 0, 'b': 32}, 48)
    """
    placed: dict[str, tuple[Lifetime, int]] = {}
    for block in sorted(blocks, key=lambda b: (-b.bytes, b.first, b.name)):
        taken = sorted((at, at + other.bytes) for other, at in placed.values() if other.meets(block))
        address = 0
        for low, high in taken:
            if address + block.bytes <= low:
                break
            address = max(address, _aligned(high, alignment))
        placed[block.name] = (block, address)
    total = max((at + block.bytes for block, at in placed.values()), default=0)
    return {name: at for name, (_, at) in placed.items()}, _aligned(total, alignment)


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


@dataclass(frozen=True, slots=True)
class Dram:
    """The map of a segment's memory.

    `regions`: where each tensor lies. `sizes`: bytes of each register. `constants`: what register 0 holds (empty for a
    graph without integers, of which only times are asked).
    """

    regions: Mapping[str, Region]
    sizes: Mapping[int, int]
    constants: bytes = b""
