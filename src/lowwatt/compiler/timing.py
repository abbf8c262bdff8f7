"""Time of a superlayer: four in-order engines, LOAD, CONV, MISC and SAVE, that wait for each other by tokens.

Within a superlayer the engines overlap: while one tile is convolved the next is loaded and the one before saved.
Between superlayers everything drains, as in the vendor's code (docs/dpu.md 1.4). Nothing here is fitted: costs come
from the target.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from lowwatt.compiler.superlayers import Superlayer
from lowwatt.compiler.tiling import Tile, Tiling, tile
from lowwatt.targets import Target

ENGINES = ("load", "conv", "misc", "save")


@dataclass(slots=True)
class Timing:
    """When each engine is free (ns from the superlayer's start), how long it worked, and bytes moved."""

    free: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0.0))
    busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0.0))
    load_bytes: int = 0
    save_bytes: int = 0

    def run(self, engine: str, duration: float, *after: float) -> float:
        """Let an engine work for `duration` ns, not before any of `after`; returns when it is done."""
        self.free[engine] = max((self.free[engine], *after)) + duration
        self.busy[engine] += duration
        return self.free[engine]

    @property
    def ns(self) -> float:
        """Length of the superlayer, drained."""
        return max(self.free.values())


def time_superlayer(layer: Superlayer, target: Target) -> Timing:
    """Time and traffic of a superlayer on a machine."""
    return _Schedule(layer, target, tile(layer, target)).run()


class _Schedule:
    """One walk over the tiles of a superlayer, in the order in which the instructions are issued."""

    def __init__(self, layer: Superlayer, target: Target, tiling: Tiling) -> None:
        self._layer, self._target, self._tiling = layer, target, tiling
        self._timing = Timing()
        self._weights: dict[int, float] = {}
        self._last_use: list[float] = []

    def run(self) -> Timing:
        saved: list[float] = []
        for part in self._tiling.tiles(self._layer, self._target.array.output_channels):
            # the tile before the last one has left its image group
            room = saved[-2] if len(saved) > 1 else 0.0
            saved.append(self._tile(part, room))
        return self._timing

    def _tile(self, part: Tile, room: float) -> float:
        layer = self._layer
        if self._tiling.kept_weights < len(part.channel_groups):
            self._weights.clear()
        if layer.has_conv:
            self._load_weights(part.channel_groups.start, room)
        loaded = self._load_source(part, room)
        operands = self._load_operands(part)
        groups = self._row_groups(part)
        if layer.has_conv:
            done = self._convolve(part, groups, loaded, operands)
        else:
            done = [self._alone(part, rows, max(operands, _at(loaded, layer, rows))) for rows in groups]
        for rows, end in zip(groups, done, strict=True):
            self._save(part, rows, end)
        return self._timing.free["save"]

    # -- LOAD ---------------------------------------------------------------------------------------------------

    def _channels(self, part: Tile) -> int:
        """Output channels of a tile."""
        lanes = self._target.array.output_channels
        return min(self._layer.grid.channels, part.channel_groups.stop * lanes) - part.channel_groups.start * lanes

    def _load(self, count: int, size: int, *after: float) -> float:
        """`count` LOADs of `size` bytes each."""
        costs = self._target.costs
        each = costs.load_ns + costs.load_cycles * self._target.cycle_ns + size / costs.load_gb_s
        self._timing.load_bytes += count * size
        return self._timing.run("load", count * each, *after)

    def _load_weights(self, group: int, room: float = 0.0) -> float:
        """Weights of an output channel group, one LOAD a channel; they wait until older weights were used."""
        if group not in self._weights:
            lanes = self._target.array.output_channels
            channels = min(lanes, self._layer.grid.channels - group * lanes)
            kept = self._tiling.kept_weights
            room = max(room, self._last_use[-kept]) if len(self._last_use) >= kept else room
            self._weights[group] = self._load(channels, self._layer.weight_bytes, room)
        return self._weights[group]

    def _load_source(self, part: Tile, room: float) -> dict[int, float]:
        """One LOAD a source row, all channels; when each row is there."""
        layer = self._layer
        wide = len(layer.source_columns(part.columns.start, part.columns.stop))
        rows = layer.source_rows(part.rows.start, part.rows.stop)
        return {row: self._load(1, wide * layer.source.channels, room) for row in rows}

    def _load_operands(self, part: Tile) -> float:
        size = len(part.columns) * self._channels(part)
        return self._load(len(part.rows) * self._layer.operands, size) if self._layer.operands else 0.0

    # -- CONV and MISC ------------------------------------------------------------------------------------------

    def _row_groups(self, part: Tile) -> list[range]:
        pixels = self._target.array.pixels
        starts = range(part.rows.start, part.rows.stop, pixels)
        return [range(start, min(part.rows.stop, start + pixels)) for start in starts]

    def _convolve(self, part: Tile, groups: list[range], loaded: dict[int, float], operands: float) -> list[float]:
        """Output channels outside, rows inside: weights stream, inputs stay. Returns when each row group is done."""
        layer, target = self._layer, self._target
        passes = layer.input_groups * layer.kernel_passes
        duration = (len(part.columns) * passes + target.costs.conv_cycles) * target.cycle_ns
        ready = [_at(loaded, layer, rows) for rows in groups]
        done = [0.0] * len(groups)
        for group in part.channel_groups:
            weights = self._load_weights(group)
            for index, rows in enumerate(groups):
                end = self._timing.run("conv", duration, weights, ready[index])
                done[index] = self._eltwise(part, rows, max(end, operands)) if layer.operands else end
            self._last_use.append(self._timing.free["conv"])
        if layer.misc is not None and not layer.operands:
            return [self._window(part, rows, done[-1]) for rows in groups]
        return done

    def _eltwise(self, part: Tile, rows: range, ready: float) -> float:
        """One output channel group of a row group."""
        return self._misc(ceil(len(rows) / self._misc_rows), len(part.columns), ready, instructions=1)

    def _window(self, part: Tile, rows: range, ready: float) -> float:
        """A pool or depthwise behind the convolution: its share of the sink's rows and columns."""
        return self._rows(part, len(self._sink_rows(rows)), len(self._sink_columns(part.columns)), ready)

    def _alone(self, part: Tile, rows: range, ready: float) -> float:
        return self._rows(part, len(rows), len(part.columns), ready)

    def _rows(self, part: Tile, rows: int, columns: int, ready: float) -> float:
        """All the tile's channels of some sink rows; one instruction for as many rows as MISC takes at once."""
        steps = ceil(rows / self._misc_rows)
        return self._misc(steps, columns * len(part.channel_groups), ready, instructions=steps)

    @property
    def _misc_rows(self) -> int:
        return 1 if self._layer.misc is None else self._layer.misc.rows

    def _misc(self, steps: int, pixels: int, ready: float, instructions: int) -> float:
        passes = 1 if self._layer.misc is None else self._layer.misc.passes
        cycles = instructions * self._target.costs.misc_cycles + steps * pixels * passes
        return self._timing.run("misc", cycles * self._target.cycle_ns, ready)

    # -- SAVE ---------------------------------------------------------------------------------------------------

    def _sink_rows(self, rows: range) -> range:
        """Sink rows that belong to some grid rows: an even share where the sizes differ."""
        return _share(rows, self._layer.sink.height, self._layer.grid.height)

    def _sink_columns(self, columns: range) -> range:
        return _share(columns, self._layer.sink.width, self._layer.grid.width)

    def _save(self, part: Tile, rows: range, ready: float) -> None:
        """One SAVE a sink row, all channels."""
        layer, costs = self._layer, self._target.costs
        channels = self._channels(part) * layer.sink.channels // layer.grid.channels
        size = len(self._sink_columns(part.columns)) * channels
        each = costs.save_ns + costs.save_cycles * self._target.cycle_ns + size / costs.save_gb_s
        count = len(self._sink_rows(rows))
        self._timing.save_bytes += count * size
        self._timing.run("save", count * each, ready)


def _share(part: range, sink: int, grid: int) -> range:
    """Positions of the sink that belong to some of the grid's; over all parts each belongs to one."""
    return range(part.start * sink // grid, part.stop * sink // grid)


def _at(loaded: dict[int, float], layer: Superlayer, rows: range) -> float:
    """When the source rows that some grid rows need are all there."""
    return max((loaded[row] for row in layer.source_rows(rows.start, rows.stop)), default=0.0)
