"""A layer's instructions: strips of columns, chunks of channels, then rows that stream through the banks.

Order of the vendor's programs (docs/dpu.md 8.6): for each strip and chunk the first tile of rows brings the weights
along, channel group by channel group; later tiles find them there. What an instruction needs is emitted right before
it; that engines run ahead of one another is the tokens' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.dram import Dram, Region
from lowwatt.compiler.lowering.array import emit_conv
from lowwatt.compiler.lowering.axes import axis_of, channels_of, last_row, packed_pads
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.gather import Gather
from lowwatt.compiler.lowering.layer import Convolution, Layer, Misc
from lowwatt.compiler.lowering.misc import emit_eltwise, emit_window
from lowwatt.compiler.lowering.padding import emit_padding
from lowwatt.compiler.lowering.parameters import Parameters
from lowwatt.compiler.lowering.space import Space
from lowwatt.compiler.lowering.tiling import Tiling


def emit_layer(layer: Layer, tiling: Tiling, dram: Dram, emitter: Emitter, space: Space) -> None:
    """Append the instructions of a layer."""
    groups = ceil(layer.sink.channels / emitter.target.array.input_channels)
    space.begin_layer()
    if layer.border is not None:
        emit_padding(layer, layer.border, dram, emitter, space)
        return
    before: Strip | None = None
    for columns in _cut(layer.sink.width, tiling.columns):
        for chunk in _cut(groups, tiling.chunk):
            strip = Strip(layer, tiling, dram, emitter, space, columns, chunk)
            if before is not None:
                strip.follow(before)
            strip.run()
            before = strip


def _cut(size: int, step: int) -> Iterator[range]:
    return (range(start, min(size, start + step)) for start in range(0, size, step))


class Strip:
    """One strip of columns and chunk of channel groups of a layer."""

    def __init__(
        self,
        layer: Layer,
        tiling: Tiling,
        dram: Dram,
        emitter: Emitter,
        space: Space,
        columns: range,
        groups: range,
    ) -> None:
        self.layer, self.tiling, self.emitter, self.groups = layer, tiling, emitter, groups
        self.target, self.space, self.regions = emitter.target, space, dram.regions
        self.lanes, self.pixels = self.target.array.input_channels, self.target.array.pixels
        self.axis = axis_of(layer, columns)
        self.parameters = Parameters(layer, groups, emitter, space)
        self.source, self.loaded = self._source_map(), 0
        self.stages: list[BankMap] | None = None
        self.grid = self.source if layer.conv is None else self._map(tiling.grid_wraps, layer.grid_stride)
        count = 0 if layer.misc is None else len(layer.misc.operands)
        self.operands = [self._map(tiling.grid_wraps, 1) for _ in range(count)]
        self.sink = self.grid if layer.misc is None or tiling.in_place else self._sink_map()
        self._operand_rows = self._finished = 0

    def follow(self, before: Strip) -> None:
        """Take over what the strip before left in the banks: the parameters of the same channels, or a map that fits
        whole for the next chunk of output channels."""
        fits = self.layer.conv is not None and before.source.rows >= self.layer.source.height
        if before.groups == self.groups:
            self.parameters = before.parameters
        elif before.axis == self.axis and fits:
            self.source, self.loaded, self.stages = before.source, before.loaded, before.stages

    def _source_map(self) -> BankMap:
        """Ring of inputs, in image group 0."""
        layer = self.layer
        words = layer.source_groups(self.lanes) if layer.conv is not None else len(self.groups)
        return self._placed("inputs", 0, self.tiling.source_wraps, len(self.axis.source), words, layer.source_stride)

    def _map(self, wraps: int, stride: int) -> BankMap:
        """Ring of the grid's size, in image group 1, where CONV and MISC write."""
        return self._placed("made", 1, wraps, len(self.axis.grid), len(self.groups), stride)

    def _sink_map(self) -> BankMap:
        columns, stride = len(self.axis.sink), self.layer.repeat[0]
        return self._placed("made", 1, self.tiling.sink_wraps, columns, len(self.groups), stride)

    def _placed(self, ring: str, group: int, wraps: int, columns: int, words: int, stride: int) -> BankMap:
        found = BankMap(group * self.pixels, self.pixels, 0, wraps, columns, words, stride)
        return replace(found, base=self.space.take(ring, found.words))

    # -- the walk -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Rows from top to bottom."""
        self.parameters.load()
        fold = self.layer.fold
        rows = self.layer.grid.height if fold is None else fold.rows
        step = self.pixels if self.layer.conv is None else self.pixels * self.layer.conv.step[0]
        for start in range(0, rows, step):
            self._produce(range(start, min(rows, start + step)))
            self._consume(min(rows, start + step))
        if fold is not None and self.layer.conv is not None:
            gather = Gather(self, self.layer.conv, fold)
            self.stages = self.stages or gather.stages()
            gather.run(self.stages)

    def _produce(self, rows: range) -> None:
        """Grid rows: made by the array, or loaded where there is none."""
        if self.layer.conv is None:
            self._load_source(rows.stop)
        else:
            self._convolve(self.layer.conv, rows)

    def _consume(self, done: int) -> None:
        """What can be made and saved of the sink once grid rows up to `done` are there."""
        if self.layer.misc is None:
            self._save_rows(range(self._finished, done))
            self._finished = done
        elif self.layer.misc.is_elementwise:
            self._eltwise(self.layer.misc, range(self._finished, done))
        else:
            self._windows(self.layer.misc, done)

    # -- LOAD ---------------------------------------------------------------------------------------------------

    def _region(self, name: str) -> Region:
        """Where a map lies, in rows as the layer sees them."""
        region, grid = self.regions[name], self.layer.grid
        return region.stretches(grid.height, grid.width) if self.layer.flat else region

    def part(self, region: Region, channels: int) -> Region:
        """The strip's own channels of a map that has so many."""
        here = channels_of(self.groups, self.lanes, channels)
        return region.part(here.start, len(here))

    def source_region(self) -> Region:
        """Where the layer's input lies, in rows as the layer sees them."""
        source, region = self.layer.source, self._region(self.layer.input)
        if (region.height, region.width, region.channels) != (source.height, source.width, source.channels):
            region = region.shaped(source)
        return region if self.layer.conv is not None else self.part(region, source.channels)

    def _load_source(self, stop: int) -> None:
        """Source rows before `stop` that are not there yet."""
        layer = self.layer
        region = self.source_region()
        for row in range(self.loaded, min(stop, layer.source.height)):
            if layer.conv is not None and layer.conv.packed:
                self._load_packed(layer.conv, region, row)
            else:
                bank, address = self.source.place(row)
                self.load_row(bank, address, region, row, self.axis.source, self.source.pixel_words)
        self.loaded = max(self.loaded, min(stop, layer.source.height))

    def load_row(self, bank: int, address: int, region: Region, row: int, columns: range, words: int) -> None:
        """Columns of a row; more channels than the field holds come in parts."""
        most = 4096 // self.lanes * self.lanes
        for channel in range(0, region.channels, most):
            part = region.part(channel, min(most, region.channels - channel))
            start = part.at(row, columns.start)
            self.emitter.load(bank, address + channel // self.lanes, start, len(columns), words, part)

    def _load_packed(self, conv: Convolution, region: Region, row: int) -> None:
        """Each output column's kernel columns side by side; what lies outside the map is padded with zeros."""
        phase, (bank, address) = conv.phases[0], self.source.place(row)
        width, step = self.layer.pixel_bytes, conv.stride[1] * region.pixel_bytes
        columns = self.axis.grid
        first = columns.start * conv.stride[1] + phase.origin[1]
        pads = packed_pads(region, first, conv.stride[1], phase.kernel[1], len(columns), self.lanes)
        start, words = region.at(row, first), self.source.pixel_words
        self.emitter.load_bytes(region.register, start, bank, address, len(columns), step, width, words, **pads)

    # -- CONV ---------------------------------------------------------------------------------------------------

    def _convolve(self, conv: Convolution, rows: range) -> None:
        self._load_source(last_row(conv, rows) + 1)
        for group in self.groups:
            self.parameters.load_weights(conv, group)
            offset = 0
            for phase in conv.phases:
                emit_conv(self, conv, phase, rows, group, offset)
                if phase in conv.weight_phases[:-1]:
                    offset += len(phase.taps)

    # -- MISC ---------------------------------------------------------------------------------------------------

    def _eltwise(self, misc: Misc, rows: range) -> None:
        for start in range(rows.start, rows.stop, misc.rows):
            part = range(start, min(rows.stop, start + misc.rows))
            self._load_operands(misc, rows.stop)
            for a in range(self.layer.repeat[0]):
                for b in range(self.layer.repeat[1]):
                    emit_eltwise(self, misc, part, self.grid, self.operands, self.sink, (a, b))
            self._save_rows(range(part.start * self.layer.repeat[0], part.stop * self.layer.repeat[0]))
        self._finished = rows.stop

    def _load_operands(self, misc: Misc, stop: int) -> None:
        for row in range(self._operand_rows, stop):
            for name, operand in zip(misc.operands, self.operands, strict=True):
                region = self.part(self._region(name), self.layer.grid.channels)
                bank, address = operand.place(row)
                self.load_row(bank, address, region, row, self.axis.grid, operand.pixel_words)
        self._operand_rows = max(self._operand_rows, stop)

    def _windows(self, misc: Misc, done: int) -> None:
        """Sink rows whose windows the grid rows before `done` fill, as many at a time as MISC takes."""
        window, height = misc.window, self.layer.sink.height
        ready = height
        if done < self.layer.grid.height:
            ready = max(0, (done - window.kernel[0] + window.pad[0]) // window.stride[0] + 1)
            ready -= ready % misc.rows
        for start in range(self._finished, ready, misc.rows):
            rows = range(start, min(ready, start + misc.rows))
            emit_window(self, misc, rows)
            self._save_rows(rows)
        self._finished = max(self._finished, ready)

    # -- SAVE ---------------------------------------------------------------------------------------------------

    def _save_rows(self, rows: range) -> None:
        region = self.part(self._region(self.layer.name), self.layer.sink.channels)
        for row in rows:
            bank, address = self.sink.place(row)
            start = region.at(row, self.axis.sink.start)
            self.emitter.save(bank, address, start, len(self.axis.sink), self.sink.pixel_words, region)
