"""Tiling: how a layer is cut into strips of columns, chunks of output channels and tiles of rows.

The vendor's rules, read off its programs (docs/dpu.md 8.6): inputs are rings of rows in image group 0, what CONV and
MISC make are rings in group 1; columns are cut into the fewest equal strips with which inputs and outputs can take
turns; output channels into the fewest equal chunks whose weights fit. Rows then stream through, and nothing is loaded
twice but the columns that two strips share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from lowwatt.compiler.lowering.gather import MAX_ROW_WORDS, stage_words
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.errors import ToolError
from lowwatt.targets import Target

_MAX_LENGTH = 1024
"""Columns of one instruction: its length field has ten bits."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """`columns`: sink columns of a strip. `chunk`: output channel groups of a chunk. `*_wraps`: room of the rings, of
    which operands have as much as the grid.
    """

    columns: int
    chunk: int
    source_wraps: int
    grid_wraps: int
    sink_wraps: int
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Sizes:
    """Words that one wrap of each ring takes of a bank, for a strip and a chunk; how many wraps the whole map has."""

    source: int
    grid: int
    operands: int
    sink: int
    source_wraps: int
    grid_wraps: int
    sink_wraps: int


class Tiler:
    """Works out the tiling of one layer."""

    def __init__(self, layer: Layer, target: Target) -> None:
        self._layer, self._target = layer, target
        self._lanes, self._pixels = target.array.input_channels, target.array.pixels
        self._depth = target.bank_depth

    def run(self) -> Tiling:
        """The tiling; ToolError where not even the narrowest strip fits."""
        groups, width = self._chunk(), self._layer.sink.width
        for parts in range(1, width * groups + 1):
            for strips, chunks in self._cuts(parts):
                columns = self._whole(ceil(width / strips))
                if strips > width or chunks > groups:
                    continue
                for in_place in self._places():
                    found = self._tiling(columns, ceil(groups / chunks), in_place)
                    if found is not None:
                        return found
        raise ToolError(
            "the layer does not fit the image buffer",
            where=self._layer.name,
            why=f"one column of {self._pixels} rows needs more than the {self._depth} words of a bank",
            hint="fewer channels, a smaller kernel, or a machine with a larger array",
        )

    def _cuts(self, parts: int) -> Iterator[tuple[int, int]]:
        """Strips and chunks that make so many parts: an operator without weights is cut by channels first, since
        strips share columns; a convolution by columns first, since each chunk sees all inputs."""
        pairs = [(k, parts // k) for k in range(1, parts + 1) if parts % k == 0]
        yield from pairs if self._layer.conv is None else reversed(pairs)

    def _whole(self, columns: int) -> int:
        """Columns of a strip that holds whole steps of a resize or a convolution with several phases."""
        conv = self._layer.conv
        step = self._layer.repeat[1] if conv is None else conv.step[1]
        return ceil(columns / step) * step

    def _places(self) -> tuple[bool, ...]:
        """Whether an addition's result may, or may not, go where its first operand was."""
        misc = self._layer.misc
        plain = misc is not None and misc.is_elementwise and self._layer.repeat == (1, 1)
        return (False, True) if plain and self._layer.conv is not None else (False,)

    def _tiling(self, columns: int, groups: int, in_place: bool) -> Tiling | None:
        sizes = self.sizes(columns, groups)
        if in_place:
            sizes = replace(sizes, sink=0)
        want_source, want_grid, want_sink = self._wanted(sizes)
        room = self._depth - self._stages(columns)
        used = want_grid * (sizes.grid + sizes.operands) + want_sink * sizes.sink
        if want_source * sizes.source > room or used > self._depth or not self._encodes(columns, sizes):
            return None
        source = min(sizes.source_wraps, room // max(1, sizes.source))
        grid, sink = want_grid, want_sink
        while grid < sizes.grid_wraps or sink < sizes.sink_wraps:
            more_grid, more_sink = min(grid + 1, sizes.grid_wraps), min(sink + 1, sizes.sink_wraps)
            if more_grid * (sizes.grid + sizes.operands) + more_sink * sizes.sink > self._depth:
                break
            grid, sink = more_grid, more_sink
        return Tiling(columns, groups, source, grid, sink, in_place)

    def _stages(self, columns: int) -> int:
        """Words that tiles of pieces take; no room at all where they would be cut into strips."""
        fold = self._layer.fold
        if fold is None:
            return 0
        each = stage_words(self._layer, fold.columns, self._lanes)
        return each * len(fold.tiles) if columns >= self._layer.sink.width else self._depth

    def _encodes(self, columns: int, sizes: Sizes) -> bool:
        """True where lengths and row distances fit their fields."""
        layer = self._layer
        wide = max(columns, self._grid_columns(columns), self._source_columns(columns))
        strided = layer.conv is not None and (layer.conv.stride[0] > 1 or layer.window.stride[0] > 1)
        return wide <= _MAX_LENGTH and (not strided or sizes.source <= MAX_ROW_WORDS * self._layer.source_stride)

    def _chunk(self) -> int:
        """Output channel groups whose weights the weight buffer holds together, in equal chunks."""
        layer = self._layer
        groups = ceil(layer.sink.channels / self._lanes)
        capacity = groups
        if layer.conv is not None:
            capacity = self._depth // layer.weight_words(self._lanes)
        elif layer.misc is not None and layer.misc.has_weights:
            capacity = self._depth // layer.window.positions
        if capacity < 1:
            raise ToolError("the weights of one output channel do not fit a bank", where=layer.name)
        return ceil(groups / ceil(groups / capacity))

    # -- sizes --------------------------------------------------------------------------------------------------

    def sizes(self, columns: int, groups: int) -> Sizes:
        """Sizes of the rings for strips of so many sink columns and chunks of so many channel groups."""
        layer, pixels = self._layer, self._pixels
        inputs = layer.source_groups(self._lanes) if layer.conv is not None else groups
        source = self._layer.source_stride * self._source_columns(columns) * inputs
        has_grid, has_misc = layer.conv is not None, layer.misc is not None
        grid = self._layer.grid_stride * self._grid_columns(columns) * groups if has_grid else 0
        operands = self._grid_columns(columns) * groups * len(layer.misc.operands) if layer.misc else 0
        sink = columns * groups * layer.repeat[0] if has_misc else 0
        total = ceil(layer.sink.height / (pixels * layer.repeat[0])) if has_misc else 0
        return Sizes(
            source,
            grid,
            operands,
            sink,
            ceil(layer.source.height / (pixels * self._layer.source_stride)),
            ceil(layer.grid.height / (pixels * self._layer.grid_stride)),
            total,
        )

    def _wanted(self, sizes: Sizes) -> tuple[int, int, int]:
        """Wraps of source, grid and sink with which the engines take turns, or all there are."""
        layer, window = self._layer, self._layer.window
        tall = layer.conv.tall if layer.conv is not None else window.kernel[0] > 1
        reach = self._reach()
        source = min(sizes.source_wraps, max(3 if tall else 2, reach))
        grid = 2
        if window.kernel[0] > 1 and layer.conv is not None:
            rows = self._pixels + window.kernel[0] + (layer.misc.rows if layer.misc else 0) * window.stride[0]
            grid = max(3 if window.stride[0] == 1 else 2, ceil(rows / (self._pixels * window.stride[0])))
        return source, min(sizes.grid_wraps, grid), min(sizes.sink_wraps, 2)

    def _reach(self) -> int:
        """Wraps of the source that one tile sees."""
        layer = self._layer
        if layer.conv is None:
            slots = self._pixels + ceil(layer.window.kernel[0] / layer.window.stride[0])
        else:
            low, high = self._row_reach()
            slots = self._pixels + ceil((high - low) / self._layer.source_stride) + 1
        return ceil(slots / self._pixels)

    def _row_reach(self) -> tuple[int, int]:
        conv = self._layer.conv
        assert conv is not None
        low = min(phase.origin[0] for phase in conv.phases)
        high = max(phase.origin[0] + conv.spacing[0] * (phase.kernel[0] - 1) for phase in conv.phases)
        return low, high

    def _grid_columns(self, columns: int) -> int:
        window = self._layer.window
        if self._layer.repeat != (1, 1):
            return columns // self._layer.repeat[1]
        return min(self._layer.grid.width, (columns - 1) * window.stride[1] + window.kernel[1])

    def _source_columns(self, columns: int) -> int:
        """Source columns that a strip's outputs see."""
        layer, conv = self._layer, self._layer.conv
        grid = self._grid_columns(columns)
        if conv is None or conv.packed:
            return grid
        low = min(phase.origin[1] for phase in conv.phases)
        high = max(phase.origin[1] + conv.spacing[1] * (phase.kernel[1] - 1) for phase in conv.phases)
        steps = ceil(grid / conv.step[1]) - 1
        return min(layer.source.width, steps * conv.spacing[1] * conv.stride[1] + high - low + 1)


def tile(layer: Layer, target: Target) -> Tiling:
    """Tiling of a layer on a machine."""
    return Tiler(layer, target).run()
