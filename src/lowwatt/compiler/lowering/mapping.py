"""Mappings that use the array better than one map row a line of the array.

The array works on `pixels` rows at once; a map of 10 rows leaves 6 of 16 lines idle. A 1x1 convolution does not care
which pixels are neighbours, so its map may be cut anew into as many rows as the array has lines: LOAD and SAVE move
stretches of pixels in place of rows (`flatten`). For other convolutions LOAD can bring pieces of the last rows, with
what their kernels see, on all lines of the array; a dilated one can have all its rows so (`fold`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

from lowwatt.compiler.lowering.gather import MAX_ROW_WORDS, stage_columns, stage_words
from lowwatt.compiler.lowering.layer import Convolution, Fold, Layer
from lowwatt.targets import Target


def flatten(layer: Layer, target: Target) -> Layer:
    """The layer on a map cut anew, where that takes fewer cycles; else the layer itself.

    Where the pixels do not divide evenly the last stretches overlap, and what they share is made twice.
    """
    if not _is_pointwise(layer):
        return layer
    size, pixels = layer.grid, target.array.pixels
    count = size.height * size.width
    tiles = range(1, ceil(size.height / pixels) + 1)
    best = min(tiles, key=lambda n: (n * ceil(count / (n * pixels)), -n))
    width = ceil(count / (best * pixels))
    if best * width >= ceil(size.height / pixels) * size.width or width > count:
        return layer
    source, grid, sink = (replace(m, height=best * pixels, width=width) for m in (layer.source, layer.grid, layer.sink))
    return replace(layer, flat=True, source=source, grid=grid, sink=sink)


def fold(layer: Layer, target: Target, zeros: Callable[[int], int]) -> Layer:
    """The layer with tiles of pieces where that takes fewer nanoseconds of the array than more of LOAD.

    `zeros` gives the address of so many zeros among the constants.
    """
    conv = layer.conv
    if conv is None or not _can_fold(layer, conv):
        return layer
    found = _pieces(layer, target)
    if found is None or _gain(layer, conv, found, target) <= 0:
        return layer
    width = stage_columns(conv, found.columns) * layer.source.channels
    return replace(layer, fold=replace(found, zeros=zeros(width)))


def _can_fold(layer: Layer, conv: Convolution) -> bool:
    plain = conv.step == conv.spacing and not conv.packed and not layer.flat and layer.repeat == (1, 1)
    return plain and (layer.misc is None or layer.misc.is_elementwise)


def _pieces(layer: Layer, target: Target) -> Fold | None:
    """Pieces of the rows that do not fill the array, or of all rows of a dilated convolution."""
    conv, pixels, grid = layer.conv, target.array.pixels, layer.grid
    assert conv is not None
    full = grid.height // pixels * pixels
    left, start = grid.height - full, full
    whole: list[tuple[tuple[int, int], ...]] = []
    if conv.spacing[0] > 1:
        whole = [tuple((row + p, 0) for p in range(pixels)) for row in range(0, full, pixels)]
        start = 0
    if not left and not whole:
        return None
    parts = pixels // left if left else 1
    columns = ceil(grid.width / parts) if not whole else grid.width
    if not whole and parts < 2:
        return None
    last: list[tuple[int, int]] = []
    if left:
        firsts = [min(k, grid.width - columns) for k in range(0, grid.width, columns)]
        last = [(full + row, first) for first in firsts for row in range(left)]
    return Fold(start, (*whole, *((tuple(last),) if last else ())), columns)


def _gain(layer: Layer, conv: Convolution, found: Fold, target: Target) -> float:
    """Nanoseconds that the array saves, less those that LOAD takes longer; negative where the stages do not fit."""
    lanes, costs = target.array.input_channels, target.costs
    words = stage_words(layer, found.columns, lanes)
    if words * (len(found.tiles) + 1) > target.bank_depth or words // conv.phases[0].kernel[0] > MAX_ROW_WORDS:
        return -1.0
    saved = _cycles(layer, conv, target) - _folded_cycles(layer, conv, found, target)
    lines = sum(len(tile) for tile in found.tiles) * conv.phases[0].kernel[0]
    size = stage_columns(conv, found.columns) * layer.source.channels
    each = costs.load_ns + costs.load_cycles * target.cycle_ns + size / costs.load_gb_s
    return saved * target.cycle_ns - lines * each


def _cycles(layer: Layer, conv: Convolution, target: Target) -> int:
    """Cycles of the array on a map as it lies."""
    (down, across), size = conv.step, layer.grid
    rows = sum(ceil(len(range(a, size.height, down)) / target.array.pixels) for a in range(down))
    columns = sum(len(range(b, size.width, across)) for b in range(across))
    return rows * columns * _passes(layer, conv, target)


def _folded_cycles(layer: Layer, conv: Convolution, found: Fold, target: Target) -> int:
    regular = ceil(found.rows / target.array.pixels) * layer.grid.width
    return (regular + len(found.tiles) * found.columns) * _passes(layer, conv, target)


def _passes(layer: Layer, conv: Convolution, target: Target) -> int:
    """Cycles for each pixel of each line: kernel positions, input groups and output groups."""
    lanes = target.array.input_channels
    kernel = conv.phases[0].kernel
    return kernel[0] * kernel[1] * layer.source_groups(lanes) * ceil(conv.channels / lanes)


def _is_pointwise(layer: Layer) -> bool:
    """True for a 1x1 convolution of stride 1, alone or with an addition or multiplication behind it."""
    conv = layer.conv
    if conv is None or conv.packed or len(conv.phases) > 1 or layer.repeat != (1, 1):
        return False
    phase = conv.phases[0]
    simple = phase.kernel == (1, 1) and phase.origin == (0, 0) and conv.stride == (1, 1)
    return simple and (layer.misc is None or layer.misc.is_elementwise)
