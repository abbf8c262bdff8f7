"""What the terminal shows of a program: its layers, their sum, and how two programs differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

from lowwatt.cli.console import messages, output, print_json, print_table, table_width

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.costs import LayerCost
    from lowwatt.compiler.details import LayerDetail, Totals
    from lowwatt.evaluate.comparison import Change


def print_program(program: Program, layers: bool, other: Program | None, json: bool) -> None:
    """A program's figures, with `layers` a row for each, with `other` what differs from that one before."""
    if json:
        print_json(_program_json(program, layers, other))
        return
    if layers:
        _print_layers(program)
    if other is not None:
        _print_comparison(other, program)
    _print_time(program)


def _program_json(program: Program, layers: bool, other: Program | None) -> dict[str, Any]:
    from lowwatt.compiler.details import detailed_json
    from lowwatt.evaluate.comparison import compare_programs

    found = detailed_json(program) if layers else program.to_json()
    if other is not None:
        found["comparison"] = asdict(compare_programs(other, program))
    return found


def _print_layers(program: Program) -> None:
    from lowwatt.compiler.details import details, totals

    found = details(program)
    print_table(layer_table(program, found, table_width()))
    messages.print(LEGEND, style="dim")
    for line in total_lines(totals(program, found), program):
        output.print(line)


def _print_comparison(before: Program, after: Program) -> None:
    from lowwatt.evaluate.comparison import compare_programs

    found = compare_programs(before, after)
    print_table(change_table(f"{found.before} → {found.after}", found.totals))
    if found.layers:
        shown = min(MOST_CHANGES, len(found.layers))
        print_table(change_table(f"layers that changed most ({shown} of {len(found.layers)})", found.layers[:shown]))
    output.print(gains(found.layers))


def _print_time(program: Program) -> None:
    from lowwatt.evaluate.energy import energy_lines

    output.print(
        f"{program.target.name}: {program.latency_ms:.2f} ms a frame (modelled: DPU {program.dpu_ms:.2f} + host "
        f"{program.host_ms:.2f}), {program.fps:.1f} fps, schedule {program.schedule}"
    )
    messages.print(f"  known from: {program.target.provenance}")
    if program.host_nodes_ms:
        output.print(
            f"  of the host's time {program.host_nodes_ms:.2f} ms are a rough estimate of operators that fell to it"
        )
    for line in energy_lines(program):
        output.print(line)


MOST_LOSSES = 2
MOST_CHANGES = 20
"""Layers of a comparison that the terminal shows; `--json` has all."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the layer table, shown where the terminal has `width` columns."""

    title: str
    width: int
    cell: Callable[[LayerCost, LayerDetail], str]
    justify: Literal["left", "right"] = "right"
    folds: int = 0
    """Least characters of a text that may go over several lines; 0: it may not."""


def _engine(name: str) -> Column:
    width = 0 if name in ("conv", "load") else 96
    return Column(name, width, lambda row, _: _kilo(row.cycles.get(name, 0)))


COLUMNS: tuple[Column, ...] = (
    Column("layer", 0, lambda row, _: row.name, "left", 14),
    Column("operator", 118, lambda row, _: row.op, "left", 8),
    Column("ms", 0, lambda row, _: f"{row.ms:.3f}"),
    Column("%", 0, lambda _, more: f"{100 * more.share:.1f}"),
    *(_engine(name) for name in ("conv", "load", "misc", "save")),
    Column("kB", 0, lambda row, _: _kilo(row.load_bytes + row.save_bytes)),
    Column("const", 150, lambda _, more: _kilo(more.footprint.constant_bytes if more.footprint else 0)),
    Column("in", 150, lambda _, more: _kilo(more.footprint.map_bytes if more.footprint else 0)),
    Column("out", 150, lambda row, _: _kilo(row.save_bytes)),
    Column("banks", 110, lambda _, more: _banks(more)),
    Column("bound", 0, lambda row, _: row.bound_by.split(" ")[0], "left"),
    Column("array", 0, lambda row, _: _share(row.utilisation)),
    Column("works", 96, lambda row, _: _share(row.array_use)),
    Column("why", 0, lambda _, more: _why(more), "left", 19),
)


def layer_table(program: Program, found: Sequence[LayerDetail], width: int) -> Table:
    """One row a layer, in as many columns as fit: 80 are enough."""
    columns = [column for column in COLUMNS if column.width <= width]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        folds = column.folds > 0
        table.add_column(
            column.title, justify=column.justify, overflow="fold", no_wrap=not folds, min_width=column.folds or None
        )
    for row, more in zip(program.layers, found, strict=True):
        table.add_row(*(column.cell(row, more) for column in columns), style="dim" if row.where == "host" else None)
    return table


LEGEND = (
    "ms: by how much the layer makes the frame longer; engines: thousands of cycles; const, in, out: kB; banks: words "
    "touched, % of image/weight; array: share of its peak over the layer's time (above 100%: layers overlap), works: "
    "while it computes; why: what costs most of that peak (LOAD, MISC, SAVE: it waits for them; drain: between layers; "
    "starts: of CONVs; 20/24 rows: lines in use)"
)


def _kilo(value: float) -> str:
    return f"{value / 1e3:.1f}" if value else ""


def _share(value: float) -> str:
    return f"{value:.0%}" if value else ""


def _why(more: LayerDetail) -> str:
    """The two costliest losses, and every remark."""
    shown = [loss for index, loss in enumerate(more.losses) if index < MOST_LOSSES or not loss.share]
    return ", ".join(f"{loss.short} {loss.share:.0%}" if loss.share else loss.short for loss in shown)


def _banks(more: LayerDetail) -> str:
    one = more.footprint
    return f"{100 * one.image_banks:.0f}/{100 * one.weight_banks:.0f}" if one is not None else ""


def total_lines(sums: Totals, program: Program) -> Iterator[str]:
    """What the rows add up to: use of the array, how busy each engine is, traffic."""
    from lowwatt.compiler.idle import WAITS

    costs, seconds = program.target.costs, sums.ms / 1e3 or 1.0
    yield (
        f"array: {sums.array_use:.1%} of its peak ({sums.gops:.1f} of {sums.peak_gops:.1f} GOPS; "
        f"{sums.array_use_working:.1%} while it works), {2 * sums.macs / 1e9:.3g} G operations in "
        f"{sums.layers} layers, {sums.instructions} instructions"
    )
    busy = (f"{name.upper()} {share:.0%}" for name, share in sums.busy.items())
    waits = (f"{WAITS[whom]} {ms:.2f} ms" for whom, ms in sums.waits.items() if ms >= 0.005)
    yield f"busy: {', '.join(busy)} of {sums.ms:.2f} ms; the array waits {', '.join(waits) or 'for nobody'}"
    yield (
        f"DRAM: {sums.load_bytes / 1e6:.2f} MB loaded ({sums.constant_bytes / 1e6:.2f} MB of constants), "
        f"{sums.save_bytes / 1e6:.2f} MB saved, {sums.ops_per_byte:.0f} operations a byte; on average "
        f"{sums.load_bytes / seconds / 1e9:.2f} of {costs.load_gb_s:g} GB/s loaded, "
        f"{sums.save_bytes / seconds / 1e9:.2f} of {costs.save_gb_s:g} saved"
    )
    yield f"banks: at most {sums.image_banks:.0%} of the image words, {sums.weight_banks:.0%} of the weight words"


def gains(changes: Sequence[Change]) -> str:
    """How many layers take less time than before, and how many more."""
    deltas = [change.delta for change in changes if change.delta is not None]
    less, more = [d for d in deltas if d < 0], [d for d in deltas if d > 0]
    return f"{len(less)} layers take {-sum(less):.3f} ms less, {len(more)} take {sum(more):.3f} ms more"


def change_table(title: str, rows: Sequence[Change]) -> Table:
    """Numbers before and after, each with what it gained or lost."""
    table = Table(title=Text(title), title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("", "before", "after", "change", "%"):
        justify: Any = "right" if heading else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=bool(heading))
    for row in rows:
        table.add_row(*_change_cells(row))
    return table


def _change_cells(row: Change) -> Iterator[Text]:
    from lowwatt.evaluate.report import quantity

    colour = "" if row.improved is None else "green" if row.improved else "red"
    yield Text(row.name)
    yield Text(quantity(row.before, row.unit))
    yield Text(quantity(row.after, row.unit))
    yield Text("–" if row.delta is None else "same" if not row.delta else _signed(row.delta, row.unit), colour)
    yield Text("" if not row.relative else f"{100 * row.relative:+.1f}", colour)


def _signed(value: float, unit: str) -> str:
    from lowwatt.evaluate.report import quantity

    return ("+" if value > 0 else "-") + quantity(abs(value), unit)
