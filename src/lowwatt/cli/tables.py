"""Tables and lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.rules import Verdict


def layer_table(program: Program) -> Table:
    """One row a layer: cycles, bytes, milliseconds, use of the array. Long names fold, the other columns do not."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for title, justify in _LAYER_COLUMNS:
        table.add_column(title, justify=justify, overflow="fold", no_wrap=title != "layer")
    for row in program.layers:
        table.add_row(
            row.name,
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


def verdict_lines(verdicts: Sequence[Verdict]) -> Iterator[Text]:
    """A few lines for each reason to leave the accelerator: which operators, why, and what to change."""
    from lowwatt.compiler.rules import group

    for verdict, nodes in group(verdicts):
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        yield Text.assemble((verdict.op, "yellow"), f" leaves the accelerator: {nodes[0]}{more}")
        yield from (Text(f"  why: {reason}") for reason in verdict.reasons)
        if verdict.remedy:
            yield Text.assemble(("  change:", "cyan"), f" {verdict.remedy}")


def doctor_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What is usable here, and how to get the rest."""
    table = Table(box=None, header_style="bold")
    for title in ("", "what", "found", "how to get it"):
        table.add_column(title, overflow="fold")
    for row in rows:
        colour = "green" if row["usable"] else "red" if row["needed"] else "yellow"
        table.add_row(Text("yes" if row["usable"] else "no", colour), row["name"], row["what"], row["how"])
    return table
