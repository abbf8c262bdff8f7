"""CONV: the outputs of one phase of a convolution, on some rows of a strip and one group of output channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lowwatt.compiler.lowering.axes import Seen, shifted, window_columns, window_rows, within
from lowwatt.compiler.lowering.layer import Convolution, Phase

if TYPE_CHECKING:
    from lowwatt.compiler.lowering.stream import Strip


def emit_conv(strip: Strip, conv: Convolution, phase: Phase, rows: range, group: int, offset: int) -> None:
    """Append a CONV for what a phase has among some grid rows; `offset`: its weights are so many taps on."""
    outputs = within(rows, phase.output[0], conv.step[0])
    columns = within(strip.axis.grid, phase.output[1], conv.step[1])
    if not outputs or not columns:
        return
    numbers = {
        **_reads(strip, conv, phase, outputs, columns),
        **_writes(strip, conv, phase, outputs, columns, group),
        **strip.parameters.of_conv(conv, group, offset),
        "length": len(columns),
        "valid_pixel_parallel": len(outputs),
    }
    strip.emitter.window("CONV", numbers)


def _reads(strip: Strip, conv: Convolution, phase: Phase, outputs: range, columns: range) -> dict[str, int]:
    (down, across), layer, words = conv.spacing, strip.layer, strip.source.pixel_words
    row = phase.origin[0] + down * conv.stride[0] * outputs.start
    column = phase.origin[1] + across * conv.stride[1] * columns.start
    rows = Seen(row, down, conv.stride[0], len(outputs), phase.kernel[0], layer.source.height)
    numbers = window_rows("CONV", strip.source, rows, layer.name)
    if conv.packed:
        # LOAD has put a column's kernel side by side: CONV sees one column, and no padding
        beside = {"kernel_w": 1, "stride_w": 1, "pad_left": 0, "pad_right": 0, "jump_read": words}
        return shifted({**numbers, **beside}, (columns.start - strip.axis.grid.start) * words)
    seen = Seen(column, across, conv.stride[1], len(columns), phase.kernel[1], layer.source.width)
    beside = {**window_columns("CONV", seen, layer.name), "jump_read": across * words}
    return shifted({**numbers, **beside}, (column - strip.axis.source.start) * words)


def _writes(
    strip: Strip, conv: Convolution, phase: Phase, outputs: range, columns: range, group: int
) -> dict[str, int]:
    grid = strip.grid
    first = phase.output[0] + conv.step[0] * outputs.start
    bank, address = grid.place(first)
    spread = grid.stride if conv.step[0] == 1 else 1
    offset = first % spread
    column = phase.output[1] + conv.step[1] * columns.start - strip.axis.grid.start
    word = column * grid.pixel_words + group - strip.groups.start
    return {
        "bank_id_out": bank,
        "stride_offset_out": offset,
        "bank_addr_out": address - offset * grid.row_words + word,
        "jump_write": conv.step[1] * grid.pixel_words,
        "stride_out": spread,
        "jump_write_endl": grid.row_words if spread > 1 else 1,
    }
