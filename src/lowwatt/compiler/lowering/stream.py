"""A layer's instructions: strips of columns, chunks of channels, then rows that stream through the banks.

Order of the vendor's programs (docs/dpu.md 8.6): for each strip and chunk the first tile of rows brings the weights
along, channel group by channel group; later tiles find them there. What an instruction needs is emitted right before
it; that engines run ahead of one another is the tokens' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.dram import CONSTANTS, Dram, Region
from lowwatt.compiler.isa.codes import EXEC_MODES
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.gather import Gather
from lowwatt.compiler.lowering.layer import Convolution, Layer, Misc, Phase
from lowwatt.compiler.lowering.padding import emit_padding
from lowwatt.compiler.lowering.space import Space
from lowwatt.compiler.lowering.tiling import Tiling
from lowwatt.errors import ToolError

_PADS = {"CONV": 15, "DPTWISE": 15, "POOL": 7, "ALU": 255}
"""Greatest pad_bottom and pad_right of each window instruction."""


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


@dataclass(frozen=True, slots=True)
class _Axis:
    """One strip's columns on source, grid and sink."""

    sink: range
    grid: range
    source: range


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
        self.axis = _axis(layer, columns)
        self.source, self.loaded = self._source_map(), 0
        self.stages: list[BankMap] | None = None
        self.grid = self.source if layer.conv is None else self._map("made", tiling.grid_wraps, layer.grid_stride)
        count = 0 if layer.misc is None else len(layer.misc.operands)
        self.operands = [self._map("made", tiling.grid_wraps, 1) for _ in range(count)]
        self.sink = self.grid if layer.misc is None or tiling.in_place else self._sink_map()
        self._operand_rows = self._finished = 0
        self._weights: dict[int, int] = {}
        self._parameters_loaded = False
        self._bias = self._misc_weights = self._misc_bias = 0

    def follow(self, before: Strip) -> None:
        """Take over what the strip before left in the banks: the weights of the same channels, or a map that fits whole
        for the next chunk of output channels."""
        if before.groups == self.groups:
            self._weights, self._parameters_loaded = before._weights, True
            self._bias, self._misc_bias = before._bias, before._misc_bias
            self._misc_weights = before._misc_weights
        elif (
            before.axis == self.axis and self.layer.conv is not None and before.source.rows >= self.layer.source.height
        ):
            self.source, self.loaded, self.stages = before.source, before.loaded, before.stages

    def _source_map(self) -> BankMap:
        """Ring of inputs, in image group 0."""
        layer = self.layer
        words = layer.source_groups(self.lanes) if layer.conv is not None else len(self.groups)
        return self._placed("inputs", 0, self.tiling.source_wraps, len(self.axis.source), words, layer.source_stride)

    def _map(self, ring: str, wraps: int, stride: int) -> BankMap:
        """Ring of the grid's size, in image group 1, where CONV and MISC write."""
        return self._placed(ring, 1, wraps, len(self.axis.grid), len(self.groups), stride)

    def _sink_map(self) -> BankMap:
        columns, stride = len(self.axis.sink), self.layer.repeat[0]
        return self._placed("made", 1, self.tiling.sink_wraps, columns, len(self.groups), stride)

    def _placed(self, ring: str, group: int, wraps: int, columns: int, words: int, stride: int) -> BankMap:
        found = BankMap(group * self.pixels, self.pixels, 0, wraps, columns, words, stride)
        return replace(found, base=self.space.take(ring, found.words))

    # -- the walk -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Rows from top to bottom."""
        if not self._parameters_loaded:
            self._load_parameters()
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

    def _load_parameters(self) -> None:
        layer = self.layer
        if layer.conv is not None:
            self._load_bias(layer.conv.bias, layer.conv.channels)
            self._load_ahead(layer.conv)
        if layer.misc is not None and layer.misc.has_weights:
            self._load_depthwise(layer.misc)

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

    def channels(self, groups: range, total: int) -> range:
        """Channels of some channel groups, of `total`."""
        return range(groups.start * self.lanes, min(total, groups.stop * self.lanes))

    def _region(self, name: str) -> Region:
        """Where a map lies, in rows as the layer sees them."""
        region, grid = self.regions[name], self.layer.grid
        return region.stretches(grid.height, grid.width) if self.layer.flat else region

    def source_region(self) -> Region:
        """Where the layer's input lies, in rows as the layer sees them."""
        source, region = self.layer.source, self._region(self.layer.input)
        if (region.height, region.width, region.channels) != (source.height, source.width, source.channels):
            region = region.shaped(source)
        if self.layer.conv is None:
            channels = self.channels(self.groups, self.layer.source.channels)
            region = region.part(channels.start, len(channels))
        return region

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
        pads = _packed_pads(region, first, conv.stride[1], phase.kernel[1], len(columns), self.lanes)
        start, words = region.at(row, first), self.source.pixel_words
        self.emitter.load_bytes(region.register, start, bank, address, len(columns), step, width, words, **pads)

    def _load_bias(self, address: int, channels: int) -> None:
        here = self.channels(self.groups, channels)
        self._bias = self.space.take("bias", len(self.groups))
        bank, size = self.target.bias_bank, len(here)
        self.emitter.load_bytes(CONSTANTS, address + here.start, bank, self._bias, 1, size, size, len(self.groups))

    def load_weights(self, conv: Convolution, group: int) -> None:
        """Weights of a channel group, one LOAD an output channel."""
        if group in self._weights:
            return
        self._weights[group] = self.space.take("weights", self.layer.weight_words(self.lanes))
        count, width, words = conv.weight_pieces, self.layer.pixel_bytes, self.layer.source_groups(self.lanes)
        for lane, channel in enumerate(self.channels(range(group, group + 1), conv.channels)):
            bank = self.target.weight_banks.start + lane
            start = conv.weights + channel * count * width
            address = self._weights[group]
            self.emitter.load_bytes(CONSTANTS, start, bank, address, count, width, width, words)

    def _load_ahead(self, conv: Convolution) -> None:
        """Weights before the first rows: rows wait for the layer before, weights need not wait behind them."""
        if self.space.runs_on:
            self.load_weights(conv, self.groups.start)

    def _load_depthwise(self, misc: Misc) -> None:
        assert self.target.depthwise_bank is not None
        channels, total = self.channels(self.groups, self.layer.sink.channels), self.layer.sink.channels
        start = misc.weights + channels.start
        positions, bank = self.layer.window.positions, self.target.depthwise_bank
        words = len(self.groups)
        self._misc_weights = self.space.take("depthwise", positions * words)
        self.emitter.load_bytes(CONSTANTS, start, bank, self._misc_weights, positions, total, len(channels), words)
        start, size, self._misc_bias = misc.bias + channels.start, len(channels), self.space.take("bias", words)
        self.emitter.load_bytes(CONSTANTS, start, self.target.bias_bank, self._misc_bias, 1, size, size, words)

    # -- CONV ---------------------------------------------------------------------------------------------------

    def _convolve(self, conv: Convolution, rows: range) -> None:
        self._load_source(_last_row(conv, rows) + 1)
        for group in self.groups:
            self.load_weights(conv, group)
            offset = 0
            for phase in conv.phases:
                self._conv(conv, phase, rows, group, offset)
                if phase in conv.weight_phases[:-1]:
                    offset += len(phase.taps)

    def _conv(self, conv: Convolution, phase: Phase, rows: range, group: int, offset: int) -> None:
        outputs = _within(rows, phase.output[0], conv.step[0])
        columns = _within(self.axis.grid, phase.output[1], conv.step[1])
        if not outputs or not columns:
            return
        numbers = {
            **self._conv_reads(conv, phase, outputs, columns),
            **self._conv_writes(conv, phase, outputs, columns, group),
            **self.conv_parameters(conv, group, offset),
            "length": len(columns),
            "valid_pixel_parallel": len(outputs),
        }
        self.emitter.window("CONV", numbers)

    def conv_parameters(self, conv: Convolution, group: int, offset: int) -> dict[str, int]:
        """Weights (`offset` kernel positions behind the first), bias and scaling of a group of output channels."""
        words = self.layer.source_groups(self.lanes)
        return {
            "shift_cut": conv.scaling.shift_cut,
            "shift_bias": conv.scaling.shift_bias,
            "act_type": conv.scaling.act_type,
            "bank_addr_weights": self._weights[group] + offset * words,
            "bank_addr_bias": self._bias + group - self.groups.start,
            "channel_group": words,
            "channel_offset": words * self.lanes - self.layer.pixel_bytes,
        }

    def _conv_reads(self, conv: Convolution, phase: Phase, outputs: range, columns: range) -> dict[str, int]:
        down, across = conv.spacing
        row = phase.origin[0] + down * conv.stride[0] * outputs.start
        column = phase.origin[1] + across * conv.stride[1] * columns.start
        rows = _Seen(row, down, conv.stride[0], len(outputs), phase.kernel[0], self.layer.source.height)
        seen = _Seen(column, across, conv.stride[1], len(columns), phase.kernel[1], self.layer.source.width)
        numbers = self._window_rows("CONV", self.source, rows)
        if conv.packed:
            numbers |= {"kernel_w": 1, "stride_w": 1, "pad_left": 0, "pad_right": 0}
            numbers["jump_read"] = self.source.pixel_words
            return self._shift(numbers, (columns.start - self.axis.grid.start) * self.source.pixel_words)
        numbers |= self._window_columns("CONV", seen)
        numbers["jump_read"] = across * self.source.pixel_words
        return self._shift(numbers, (column - self.axis.source.start) * self.source.pixel_words)

    def _conv_writes(
        self, conv: Convolution, phase: Phase, outputs: range, columns: range, group: int
    ) -> dict[str, int]:
        grid = self.grid
        first = phase.output[0] + conv.step[0] * outputs.start
        bank, address = grid.place(first)
        spread = grid.stride if conv.step[0] == 1 else 1
        offset = first % spread
        column = phase.output[1] + conv.step[1] * columns.start - self.axis.grid.start
        return {
            "bank_id_out": bank,
            "stride_offset_out": offset,
            "bank_addr_out": address - offset * grid.row_words + column * grid.pixel_words + group - self.groups.start,
            "jump_write": conv.step[1] * grid.pixel_words,
            "stride_out": spread,
            "jump_write_endl": grid.row_words if spread > 1 else 1,
        }

    # -- windows ------------------------------------------------------------------------------------------------

    def _window_rows(self, name: str, source: BankMap, seen: _Seen) -> dict[str, int]:
        """Bank and addresses of the rows that an instruction looks at; column 0 of the map."""
        slot_rows = seen.stride if seen.spacing == 1 else 1
        slot, phase = divmod(seen.first, source.stride)
        wrap = slot // self.pixels
        offset, extra = (phase, 0) if seen.spacing == 1 else (0, phase * source.row_words)
        addresses = [source.wrap_address(wrap + k) + extra for k in range(4)]
        numbers = {
            "bank_id_in": source.bank(slot),
            "stride_offset_in": offset,
            "kernel_h": seen.kernel,
            "stride_h": seen.stride,
            "jump_read_endl": source.row_words if slot_rows > 1 else 1,
            "pad_top": seen.before,
            "pad_bottom": seen.behind(_PADS[name], self.layer.name),
        }
        keys = ("bank_addr_in", "bank_addr_in_1", "bank_addr_in_2", "bank_addr_in_3")
        return numbers | dict(zip(keys, addresses, strict=True))

    def _window_columns(self, name: str, seen: _Seen) -> dict[str, int]:
        return {
            "kernel_w": seen.kernel,
            "stride_w": seen.stride,
            "pad_left": seen.before,
            "pad_right": seen.behind(_PADS[name], self.layer.name),
        }

    def _shift(self, numbers: dict[str, int], words: int) -> dict[str, int]:
        """Addresses moved on to a column (back for padding); they go round at the end of a bank."""
        depth = self.target.bank_depth
        for key in ("bank_addr_in", "bank_addr_in_1", "bank_addr_in_2", "bank_addr_in_3"):
            numbers[key] = (numbers[key] + words) % depth
        return numbers

    # -- MISC ---------------------------------------------------------------------------------------------------

    def _eltwise(self, misc: Misc, rows: range) -> None:
        for start in range(rows.start, rows.stop, misc.rows):
            part = range(start, min(rows.stop, start + misc.rows))
            self._load_operands(misc, rows.stop)
            for a in range(self.layer.repeat[0]):
                for b in range(self.layer.repeat[1]):
                    self.eltwise_rows(misc, part, self.grid, self.operands, self.sink, (a, b))
            self._save_rows(range(part.start * self.layer.repeat[0], part.stop * self.layer.repeat[0]))
        self._finished = rows.stop

    def _load_operands(self, misc: Misc, stop: int) -> None:
        channels = self.channels(self.groups, self.layer.grid.channels)
        for row in range(self._operand_rows, stop):
            for name, operand in zip(misc.operands, self.operands, strict=True):
                region = self._region(name).part(channels.start, len(channels))
                bank, address = operand.place(row)
                self.load_row(bank, address, region, row, self.axis.grid, operand.pixel_words)
        self._operand_rows = max(self._operand_rows, stop)

    def eltwise_rows(
        self,
        misc: Misc,
        rows: range,
        first: BankMap,
        others: Sequence[BankMap],
        sink: BankMap,
        offset: tuple[int, int] = (0, 0),
    ) -> None:
        """ELEWINIT for each operand, in the order in which the graph has them, then ELEW.

        A resize repeats each pixel: this makes the one `offset` rows and columns behind.
        """
        assert misc.alignment is not None
        maps, repeat = list(others), self.layer.repeat
        maps.insert(misc.first_operand, first)
        for index, (operand, shift) in enumerate(zip(maps, misc.alignment.reads, strict=True)):
            bank, address = operand.place(rows.start)
            jump = operand.pixel_words
            self.emitter.emit(
                "ELEWINIT", id=index, bank_id_in=bank, bank_addr_in=address, jump_read=jump, shift_read=shift
            )
        bank, address = sink.place(rows.start * repeat[0] + offset[0])
        lines = {"valid_pixel_parallel": len(rows)} if self.target.isa else {}
        self.emitter.emit(
            "ELEW",
            bank_id_out=bank,
            bank_addr_out=address + offset[1] * sink.pixel_words,
            length=first.columns,
            channel_group=len(self.groups),
            jump_write=repeat[1] * sink.pixel_words,
            num=len(maps),
            shift_write=misc.alignment.write,
            elew_type=int(misc.kind == "mul"),
            act_type=misc.scaling.act_type,
            **lines,
        )

    def _windows(self, misc: Misc, done: int) -> None:
        """Sink rows whose windows the grid rows before `done` fill, as many at a time as MISC takes."""
        window, height = misc.window, self.layer.sink.height
        ready = height
        if done < self.layer.grid.height:
            ready = max(0, (done - window.kernel[0] + window.pad[0]) // window.stride[0] + 1)
            ready -= ready % misc.rows
        for start in range(self._finished, ready, misc.rows):
            rows = range(start, min(ready, start + misc.rows))
            self._window(misc, rows)
            self._save_rows(rows)
        self._finished = max(self._finished, ready)

    def _window(self, misc: Misc, rows: range) -> None:
        window, grid, layer = misc.window, self.grid, self.layer
        name = self._window_name(misc)
        row = rows.start * window.stride[0] - window.pad[0]
        column = self.axis.sink.start * window.stride[1] - window.pad[2]
        seen_rows = _Seen(row, 1, window.stride[0], len(rows), window.kernel[0], layer.grid.height)
        seen = _Seen(column, 1, window.stride[1], len(self.axis.sink), window.kernel[1], layer.grid.width)
        bank, address = self.sink.place(rows.start)
        numbers = {
            **self._window_rows(name, grid, seen_rows),
            **self._window_columns(name, seen),
            **self._misc_numbers(name, misc),
            "jump_read": grid.pixel_words,
            "bank_id_out": bank,
            "bank_addr_out": address,
            "jump_write": self.sink.pixel_words,
            "stride_out": 1,
            "jump_write_endl": 1,
            "channel_group": len(self.groups),
            "length": len(self.axis.sink),
            "valid_pixel_parallel": len(rows),
        }
        start = column - (self.axis.source.start if layer.conv is None else self.axis.grid.start)
        self.emitter.window(name, self._shift(numbers, start * grid.pixel_words))

    def _window_name(self, misc: Misc) -> str:
        if self.target.isa:
            return "ALU"
        return "DPTWISE" if misc.has_weights else "POOL"

    def _misc_numbers(self, name: str, misc: Misc) -> dict[str, int]:
        numbers = {"shift_cut": misc.scaling.shift_cut, "shift_bias": misc.scaling.shift_bias}
        if misc.has_weights:
            numbers |= {
                "act_type": misc.scaling.act_type,
                "bank_addr_weights": self._misc_weights,
                "bank_addr_bias": self._misc_bias,
                "jump_read_weights": len(self.groups),
            }
        if name == "POOL":
            average = misc.kind == "average"
            cut = misc.scaling.shift_cut - _pool_digits(misc) if average else 0
            numbers |= {"pool_type": int(average), "shift_cut": cut}
        if name == "ALU":
            numbers |= {"exec_mode": EXEC_MODES[misc.kind], "multi_factor": misc.factor}
        return numbers

    # -- SAVE ---------------------------------------------------------------------------------------------------

    def _save_rows(self, rows: range) -> None:
        channels = self.channels(self.groups, self.layer.sink.channels)
        region = self._region(self.layer.name).part(channels.start, len(channels))
        for row in rows:
            bank, address = self.sink.place(row)
            start = region.at(row, self.axis.sink.start)
            self.emitter.save(bank, address, start, len(self.axis.sink), self.sink.pixel_words, region)


def _pool_digits(misc: Misc) -> int:
    """Digits that a pool's own factor takes; the field holds what the fix points add."""
    from lowwatt.ir.arithmetic import dpu_average_factor

    return dpu_average_factor(misc.window.kernel)[1]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an instruction sees along one axis: `count` windows of `kernel` places from `first`, within `size`.

    Windows begin `stride`, places lie `spacing` apart; both in steps of `spacing` for the machine.
    """

    first: int
    spacing: int
    stride: int
    count: int
    kernel: int
    size: int

    @property
    def before(self) -> int:
        """Places before the map that the first window begins with."""
        return max(0, ceil(-self.first / self.spacing))

    def behind(self, limit: int, where: str) -> int:
        """Places of the map behind the last window's first, as far as the kernel goes."""
        last = self.first + self.spacing * self.stride * (self.count - 1)
        found = (self.size - 1 - last) // self.spacing
        if found < 0:
            raise ToolError("a window lies wholly in the padding", where=where)
        return min(found, limit, self.kernel - 1)


def _within(span: range, first: int, step: int) -> range:
    """Indices i for which first + step * i lies in a span."""
    return range(max(0, ceil((span.start - first) / step)), max(0, (span.stop - 1 - first) // step + 1))


def _last_row(conv: Convolution, rows: range) -> int:
    """Last source row that some grid rows see."""
    last = 0
    for phase in conv.phases:
        outputs = _within(rows, phase.output[0], conv.step[0])
        if outputs:
            reach = conv.stride[0] * (outputs.stop - 1) + phase.kernel[0] - 1
            last = max(last, phase.origin[0] + conv.spacing[0] * reach)
    return last


def _axis(layer: Layer, sink: range) -> _Axis:
    """Columns of grid and source that a strip's sink columns see."""
    window, conv = layer.window, layer.conv
    low = sink.start * window.stride[1] - window.pad[2]
    high = (sink.stop - 1) * window.stride[1] - window.pad[2] + window.kernel[1]
    grid = range(max(0, low), min(layer.grid.width, high))
    if layer.repeat != (1, 1):
        grid = range(sink.start // layer.repeat[1], ceil(sink.stop / layer.repeat[1]))
    if conv is None or conv.packed:
        return _Axis(sink, grid, grid)
    lows, highs = [], []
    for phase in conv.phases:
        columns = _within(grid, phase.output[1], conv.step[1])
        if columns:
            jump = conv.spacing[1] * conv.stride[1]
            lows.append(phase.origin[1] + jump * columns.start)
            highs.append(phase.origin[1] + jump * (columns.stop - 1) + conv.spacing[1] * (phase.kernel[1] - 1) + 1)
    return _Axis(sink, grid, range(max(0, min(lows)), min(layer.source.width, max(highs))))


def _packed_pads(region: Region, first: int, stride: int, kernel: int, count: int, lanes: int) -> dict[str, int]:
    """Padding fields of a packing LOAD (docs/dpu.md 8.3): zeros before the row, and in the last windows behind it."""
    start = max(0, -first) * region.channels
    outside = [max(0, first + k * stride + kernel - region.width) for k in range(count)]
    padded = [k for k in range(count) if outside[k]]
    if not padded:
        return {"pad_start": start}
    words = -(-kernel * region.channels // lanes) * lanes
    end = words - (kernel - outside[padded[0]]) * region.channels
    return {"pad_start": start, "pad_end": end, "pad_idx": len(padded) - 1}
