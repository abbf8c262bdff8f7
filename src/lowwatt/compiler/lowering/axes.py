"""Where a strip's outputs look: rows and columns of the maps, and how fields state them (docs/dpu.md 8.6)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.dram import Region
from lowwatt.compiler.lowering.layer import Convolution, Layer
from lowwatt.errors import ToolError

_PADS = {"CONV": 15, "DPTWISE": 15, "POOL": 7, "ALU": 255}
"""Greatest pad_bottom and pad_right of each window instruction."""

_ADDRESSES = ("bank_addr_in", "bank_addr_in_1", "bank_addr_in_2", "bank_addr_in_3")


@dataclass(frozen=True, slots=True)
class Axis:
    """One strip's columns on source, grid and sink."""

    sink: range
    grid: range
    source: range


def axis_of(layer: Layer, sink: range) -> Axis:
    """Columns of grid and source that a strip's sink columns see."""
    window, conv = layer.window, layer.conv
    low = sink.start * window.stride[1] - window.pad[2]
    high = (sink.stop - 1) * window.stride[1] - window.pad[2] + window.kernel[1]
    grid = range(max(0, low), min(layer.grid.width, high))
    if layer.repeat != (1, 1):
        grid = range(sink.start // layer.repeat[1], ceil(sink.stop / layer.repeat[1]))
    if conv is None or conv.packed:
        return Axis(sink, grid, grid)
    lows, highs = [], []
    for phase in conv.phases:
        columns = within(grid, phase.output[1], conv.step[1])
        if columns:
            jump = conv.spacing[1] * conv.stride[1]
            lows.append(phase.origin[1] + jump * columns.start)
            highs.append(phase.origin[1] + jump * (columns.stop - 1) + conv.spacing[1] * (phase.kernel[1] - 1) + 1)
    return Axis(sink, grid, range(max(0, min(lows)), min(layer.source.width, max(highs))))


def within(span: range, first: int, step: int) -> range:
    """Indices i for which first + step * i lies in a span."""
    return range(max(0, ceil((span.start - first) / step)), max(0, (span.stop - 1 - first) // step + 1))


def last_row(conv: Convolution, rows: range) -> int:
    """Last source row that some grid rows see."""
    last = 0
    for phase in conv.phases:
        outputs = within(rows, phase.output[0], conv.step[0])
        if outputs:
            reach = conv.stride[0] * (outputs.stop - 1) + phase.kernel[0] - 1
            last = max(last, phase.origin[0] + conv.spacing[0] * reach)
    return last


def channels_of(groups: range, lanes: int, total: int) -> range:
    """Channels of some channel groups, of `total`."""
    return range(groups.start * lanes, min(total, groups.stop * lanes))


@dataclass(frozen=True, slots=True)
class Seen:
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

    def behind(self, name: str, where: str) -> int:
        """Places of the map behind the last window's first, as far as kernel and the instruction's field go."""
        last = self.first + self.spacing * self.stride * (self.count - 1)
        found = (self.size - 1 - last) // self.spacing
        if found < 0:
            raise ToolError("a window lies wholly in the padding", where=where)
        return min(found, _PADS[name], self.kernel - 1)


def window_rows(name: str, source: BankMap, seen: Seen, where: str) -> dict[str, int]:
    """Bank and addresses of the rows that a window instruction looks at; column 0 of the map."""
    slot, phase = divmod(seen.first, source.stride)
    wrap = slot // source.pixels
    # rows that stand apart are neighbours to the machine, in a layout of as many rows a slot
    apart = seen.spacing > 1
    offset, extra = (0, phase * source.row_words) if apart else (phase, 0)
    numbers = {
        "bank_id_in": source.bank(slot),
        "stride_offset_in": offset,
        "kernel_h": seen.kernel,
        "stride_h": seen.stride,
        "jump_read_endl": source.row_words if seen.stride > 1 and not apart else 1,
        "pad_top": seen.before,
        "pad_bottom": seen.behind(name, where),
    }
    return numbers | {key: source.wrap_address(wrap + k) + extra for k, key in enumerate(_ADDRESSES)}


def window_columns(name: str, seen: Seen, where: str) -> dict[str, int]:
    """Kernel, stride and padding along a row."""
    pads = {"pad_left": seen.before, "pad_right": seen.behind(name, where)}
    return {"kernel_w": seen.kernel, "stride_w": seen.stride, **pads}


def shifted(numbers: dict[str, int], words: int) -> dict[str, int]:
    """The numbers with all input addresses moved on by some words (back for padding)."""
    return numbers | {key: numbers[key] + words for key in _ADDRESSES}


def packed_pads(region: Region, first: int, stride: int, kernel: int, count: int, lanes: int) -> dict[str, int]:
    """Padding fields of a packing LOAD (docs/dpu.md 8.6): zeros before the row, and in the last windows behind it."""
    start = max(0, -first) * region.channels
    outside = [max(0, first + k * stride + kernel - region.width) for k in range(count)]
    padded = [k for k in range(count) if outside[k]]
    if not padded:
        return {"pad_start": start}
    words = -(-kernel * region.channels // lanes) * lanes
    end = words - (kernel - outside[padded[0]]) * region.channels
    return {"pad_start": start, "pad_end": end, "pad_idx": len(padded) - 1}
