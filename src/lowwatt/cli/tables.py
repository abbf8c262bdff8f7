"""Tables and lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.rules import Verdict


def layer_table(program: Program) -> Table:
    """One row a layer: cycles, bytes, milliseconds, use of the array."""
    table = Table(box=None, header_style="bold")
    for title, justify in _LAYER_COLUMNS:
        table.add_column(title, justify=justify)
    for row in program.layers:
        table.add_row(
            escape(row.name),
            row.op,
            row.where,
            f"{row.macs / 1e6:.2f}",
            f"{row.load_bytes / 1e3:.1f}",
            f"{row.save_bytes / 1e3:.1f}",
            f"{row.ms:.3f}",
            f"{row.utilisation:.0%}",
            row.bound_by,
        )
    return table


_LAYER_COLUMNS: Sequence[tuple[str, Any]] = (
    ("layer", "left"),
    ("operator", "left"),
    ("runs on", "left"),
    ("MMAC", "right"),
    ("load kB", "right"),
    ("save kB", "right"),
    ("ms", "right"),
    ("array", "right"),
    ("bound by", "left"),
)


def verdict_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A few lines for each reason to leave the accelerator: which operators, why, and what to change."""
    from lowwatt.compiler.rules import group

    for verdict, nodes in group(verdicts):
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        yield f"[yellow]{verdict.op}[/] leaves the accelerator: {escape(nodes[0])}{more}"
        yield from (f"  why: {escape(reason)}" for reason in verdict.reasons)
        if verdict.remedy:
            yield f"  [cyan]change:[/] {escape(verdict.remedy)}"


def doctor_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What is usable here, and how to get the rest."""
    table = Table(box=None, header_style="bold")
    for title in ("", "what", "found", "how to get it"):
        table.add_column(title, overflow="fold")
    for row in rows:
        mark = "[green]yes[/]" if row["usable"] else "[red]no[/]" if row["needed"] else "[yellow]no[/]"
        table.add_row(mark, row["name"], escape(row["what"]), escape(row["how"]))
    return table
