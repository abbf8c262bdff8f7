"""MISC: elementwise operators (ELEW) and windows (POOL, DPTWISE, or ALU on ISA1) on some rows of a strip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.isa.codes import EXEC_MODES
from lowwatt.compiler.lowering.axes import Seen, shifted, window_columns, window_rows
from lowwatt.compiler.lowering.layer import Misc
from lowwatt.ir.arithmetic import dpu_average_factor

if TYPE_CHECKING:
    from lowwatt.compiler.lowering.stream import Strip


def emit_eltwise(
    strip: Strip,
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
    maps, repeat, emitter = list(others), strip.layer.repeat, strip.emitter
    maps.insert(misc.first_operand, first)
    for index, (operand, shift) in enumerate(zip(maps, misc.alignment.reads, strict=True)):
        bank, address = operand.place(rows.start)
        jump = operand.pixel_words
        emitter.emit("ELEWINIT", id=index, bank_id_in=bank, bank_addr_in=address, jump_read=jump, shift_read=shift)
    bank, address = sink.place(rows.start * repeat[0] + offset[0])
    lines = {"valid_pixel_parallel": len(rows)} if emitter.target.isa else {}
    emitter.emit(
        "ELEW",
        bank_id_out=bank,
        bank_addr_out=address + offset[1] * sink.pixel_words,
        length=first.columns,
        channel_group=len(strip.groups),
        jump_write=repeat[1] * sink.pixel_words,
        num=len(maps),
        shift_write=misc.alignment.write,
        elew_type=int(misc.kind == "mul"),
        act_type=misc.scaling.act_type,
        **lines,
    )


def emit_window(strip: Strip, misc: Misc, rows: range) -> None:
    """Append a window instruction that makes some sink rows of all the strip's channels."""
    window, grid, sink, size = misc.window, strip.grid, strip.sink, strip.layer.grid
    name, where, columns = _name(strip, misc), strip.layer.name, strip.axis.sink
    row = rows.start * window.stride[0] - window.pad[0]
    column = columns.start * window.stride[1] - window.pad[2]
    seen_rows = Seen(row, 1, window.stride[0], len(rows), window.kernel[0], size.height)
    seen = Seen(column, 1, window.stride[1], len(columns), window.kernel[1], size.width)
    bank, address = sink.place(rows.start)
    numbers = {
        **window_rows(name, grid, seen_rows, where),
        **window_columns(name, seen, where),
        **_work(strip, name, misc),
        "jump_read": grid.pixel_words,
        "bank_id_out": bank,
        "bank_addr_out": address,
        "jump_write": sink.pixel_words,
        "stride_out": 1,
        "jump_write_endl": 1,
        "channel_group": len(strip.groups),
        "length": len(columns),
        "valid_pixel_parallel": len(rows),
    }
    start = strip.axis.source.start if strip.layer.conv is None else strip.axis.grid.start
    strip.emitter.window(name, shifted(numbers, (column - start) * grid.pixel_words))


def _name(strip: Strip, misc: Misc) -> str:
    if strip.emitter.target.isa:
        return "ALU"
    return "DPTWISE" if misc.has_weights else "POOL"


def _work(strip: Strip, name: str, misc: Misc) -> dict[str, int]:
    """What the instruction does with what it sees."""
    numbers = {"shift_cut": misc.scaling.shift_cut, "shift_bias": misc.scaling.shift_bias}
    if misc.has_weights:
        numbers |= strip.parameters.of_depthwise(misc)
    if name == "POOL":
        average = misc.kind == "average"
        # a pool's own factor takes digits; the field holds what the fix points add
        cut = misc.scaling.shift_cut - dpu_average_factor(misc.window.kernel)[1] if average else 0
        numbers |= {"pool_type": int(average), "shift_cut": cut}
    if name == "ALU":
        numbers |= {"exec_mode": EXEC_MODES[misc.kind], "multi_factor": misc.factor}
    return numbers
