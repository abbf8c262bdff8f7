"""Tiling: how a superlayer's maps are cut so that they fit the banks.

Feature row h lies in bank h mod `pixels`; a bank holds `bank_depth` words of `input_channels` bytes. The two image
groups take turns: one holds the tile that is worked on, the other the tile that is loaded or saved. A tile is as many
groups of `pixels` rows as fit a group of banks with its inputs, further operands and outputs; where not even one group
of rows fits, the columns are cut. Rows that two tiles need are loaded twice. Where the weight buffer does not hold all
weights and there are several tiles, either the weights are loaded again for each tile, or the maps for each block of
output channels, whichever moves fewer bytes. (Source: docs/dpu.md 1.1 and 1.4.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from lowwatt.compiler.superlayers import Superlayer
from lowwatt.errors import ToolError
from lowwatt.targets import Target

_MAX_LENGTH = 1024
"""Columns of one CONV: its length field has ten bits."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Grid rows, columns and output channel groups of one tile (half-open)."""

    rows: range
    columns: range
    channel_groups: range


@dataclass(frozen=True, slots=True)
class Tiling:
    """Rows, columns and output channel groups of a tile, and how many channel groups of weights are kept at once."""

    rows: int
    columns: int
    channel_groups: int
    kept_weights: int

    def tiles(self, layer: Superlayer, lanes: int) -> Iterator[Tile]:
        """Tiles in order: channels outside, then columns, then rows; `lanes` channels make a group."""
        for channels in _cut(ceil(layer.grid.channels / lanes), self.channel_groups):
            for columns in _cut(layer.grid.width, self.columns):
                for rows in _cut(layer.grid.height, self.rows):
                    yield Tile(rows, columns, channels)


def _cut(size: int, step: int) -> Iterator[range]:
    return (range(start, min(size, start + step)) for start in range(0, size, step))


def tile(layer: Superlayer, target: Target) -> Tiling:
    """Largest tile that fits a group of banks; ToolError where a single column of one row group does not."""
    columns, pixels = _columns(layer, target), target.array.pixels
    groups = 1
    while groups * pixels < layer.grid.height and words(layer, target, groups + 1, columns) <= target.bank_depth:
        groups += 1
    kept, channels = _kept_weights(layer, target), ceil(layer.grid.channels / target.array.output_channels)
    whole = Tiling(groups * pixels, columns, channels, kept)
    return replace(whole, channel_groups=kept) if _blocks_are_cheaper(layer, whole, target) else whole


def _blocks_are_cheaper(layer: Superlayer, whole: Tiling, target: Target) -> bool:
    """True where loading the maps for each block of channels moves fewer bytes than the weights for each tile."""
    count = sum(1 for _ in whole.tiles(layer, target.array.output_channels))
    if count == 1 or whole.kept_weights >= whole.channel_groups or not layer.has_conv:
        return False
    weights, blocks = layer.weight_bytes * layer.grid.channels, ceil(whole.channel_groups / whole.kept_weights)
    return layer.source.elements * (blocks - 1) < weights * (count - 1)


def _columns(layer: Superlayer, target: Target) -> int:
    """Most columns, in equal parts, with which one row group fits."""
    width = layer.grid.width
    for parts in range(ceil(width / _MAX_LENGTH), width + 1):
        columns = ceil(width / parts)
        if words(layer, target, 1, columns) <= target.bank_depth:
            return columns
    raise ToolError(
        "the layer does not fit the image buffer",
        where=layer.name,
        why=f"one column of {target.array.pixels} rows needs more than the {target.bank_depth} words of a bank",
        hint="fewer channels, a smaller kernel, or a machine with a larger array",
    )


def words(layer: Superlayer, target: Target, groups: int, columns: int) -> int:
    """Words of a bank that a tile of `groups` row groups and `columns` columns takes: inputs, operands, outputs."""
    pixels = target.array.pixels
    rows = min(layer.grid.height, groups * pixels)
    # an inner tile: no row or column is saved by padding at the map's edge
    tall = min(layer.source.height, ceil(layer.window.reach(0, rows) / layer.upscale[0]))
    wide = min(layer.source.width, ceil(layer.window.reach(1, columns) / layer.upscale[1]))
    source = ceil(tall / pixels) * wide * ceil(layer.source.channels / target.array.input_channels)
    grid = groups * columns * ceil(layer.grid.channels / target.array.input_channels)
    return source + grid * (1 + layer.operands) + _sink_words(layer, target, grid)


def _sink_words(layer: Superlayer, target: Target, grid: int) -> int:
    """A pool or depthwise behind the convolution writes a map of its own, beside the convolution's."""
    if not layer.has_conv or layer.sink == layer.grid:
        return 0
    return ceil(grid * layer.sink.elements / layer.grid.elements)


def _kept_weights(layer: Superlayer, target: Target) -> int:
    """Output channel groups whose weights fit the weight buffer together; 0 without a convolution."""
    if not layer.has_conv:
        return 0
    each = layer.input_groups * layer.kernel_passes
    return max(1, min(target.bank_depth // each, ceil(layer.grid.channels / target.array.output_channels)))
