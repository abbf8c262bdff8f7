"""Tables and lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.costs import LayerCost
    from lowwatt.compiler.rules import Verdict
    from lowwatt.verbs.compile import Standing
    from lowwatt.verbs.rewrite import RewriteReport

_ENGINES = ("conv", "load", "misc", "save")


def layer_table(program: Program) -> Table:
    """One row a layer, readable in 100 columns: time, the engines' cycles, use of the array and what keeps it low."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for title, justify in _LAYER_COLUMNS:
        folds = title in ("layer", "operator", "why")
        table.add_column(title, justify=justify, overflow="fold", no_wrap=not folds, min_width=8 if folds else None)
    for row in program.layers:
        table.add_row(*_layer_cells(row, program))
    return table


_LAYER_COLUMNS: Sequence[tuple[str, Any]] = (
    ("layer", "left"),
    ("operator", "left"),
    ("ms", "right"),
    ("%", "right"),
    *((engine, "right") for engine in _ENGINES),
    ("kB", "right"),
    ("bound", "left"),
    ("array", "right"),
    ("why", "left"),
)


def _layer_cells(row: LayerCost, program: Program) -> Iterator[str]:
    from lowwatt.compiler.losses import why_low

    yield from (row.name, row.op, f"{row.ms:.3f}", f"{100 * row.ms / (program.latency_ms or 1):.1f}")
    yield from (_kilo(row.cycles.get(engine, 0)) for engine in _ENGINES)
    yield _kilo(row.load_bytes + row.save_bytes)
    yield row.bound_by.split(" ")[0]
    yield f"{row.array_use:.0%}" if row.array_use else ""
    yield why_low(row, program.graph, program.target)


def _kilo(value: float) -> str:
    return f"{value / 1e3:.1f}" if value else ""


def layer_summary(program: Program) -> str:
    """What the table's rows add up to, and the unit of its cycles."""
    rows = [row for row in program.layers if row.where == "dpu"]
    ran = program.dpu_ms * 1e6 / program.target.cycle_ns
    shares = (f"{name.upper()} {sum(row.cycles[name] for row in rows) / (ran or 1):.0%}" for name in _ENGINES)
    moved = sum(row.load_bytes + row.save_bytes for row in program.layers)
    peak = program.target.array.macs_per_cycle
    use = sum(row.macs for row in rows) / (peak * ran or 1)
    return (
        f"{_count(len(rows), 'layer')} on the accelerator, engines busy {', '.join(shares)}; "
        f"array {use:.0%} of its peak; {moved / 1e6:.1f} MB moved (cycles in the table in thousands, % of the frame)"
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


def standing_line(standing: Standing) -> str:
    """How many operators run where, and in how many pieces."""
    on_accelerator = standing.operators - standing.on_host
    return (
        f"{on_accelerator} of {standing.operators} operators run on the accelerator; "
        f"{_count(standing.parts, 'part')}, {_count(standing.crossings, 'tensor')} between host and accelerator"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def rewrite_lines(report: RewriteReport) -> Iterator[Text]:
    """What was rewritten and proved, what stays off the accelerator and why no rewrite fits, before and after."""
    for row in report.rewrites:
        exact = {"integers": "exact", "reals": "exact on reals", "nothing": "needs fine-tuning"}[row["keeps"]]
        colour = "yellow" if row["keeps"] == "nothing" else "green"
        yield Text.assemble((row["name"], colour), f" ({exact}): {row['what']}")
        yield Text(f"  {_count(len(row['nodes']), 'node')}: {_some(row['nodes'])}")
    yield from (Text(f"proof: {line}") for line in report.proof)
    yield from verdict_lines(report.verdicts)
    for row in report.misses:
        yield Text(f"{row['name']} does not fit {_some(row['nodes'])}: {row['reason']}")
    yield Text(f"before: {standing_line(report.before)}")
    yield Text(f"after:  {standing_line(report.after)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def doctor_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What is usable here, and how to get the rest."""
    table = Table(box=None, header_style="bold")
    for title in ("", "what", "found", "how to get it"):
        table.add_column(title, overflow="fold")
    for row in rows:
        colour = "green" if row["usable"] else "red" if row["needed"] else "yellow"
        table.add_row(Text("yes" if row["usable"] else "no", colour), row["name"], row["what"], row["how"])
    return table
