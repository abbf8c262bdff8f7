"""Tables and lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lowwatt.compiler.rules import Verdict
    from lowwatt.verbs.compile import Standing
    from lowwatt.verbs.rewrite import RewriteReport


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


def runtimes_table(result: dict[str, Any]) -> Table:
    """Of `export --all`: what each runtime makes of the network, beside the reference and the float network."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    titles = ("", "for", "runs on", "> 1 step", "score ±", "box px ±", result["measure"], "± ref.", "± float")
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number < 3 else "right", no_wrap=True)
    for row in result["rows"]:
        if "value" in row:
            table.add_row(_STATES[row["state"]], row["scheme"], row["runtime"], *_figures(row, result["float"]))
    return table


_STATES = {"ok": Text("ok", "green"), "off": Text("off", "red"), "lost": Text("lost", "red")}


def _figures(row: dict[str, Any], before: float) -> Sequence[str]:
    value = row["value"]
    apart = (f"{row['beyond_one_step']:.2%}", f"{row['score_apart']:.4f}", f"{row['box_apart_px']:.2f}")
    return (*apart, f"{value:.4f}", f"{value - row['reference']:+.4f}", f"{value - before:+.4f}" if before else "")


def without_figures(result: dict[str, Any]) -> Iterator[Text]:
    """Runtimes that refused a network, and why; those that are not here, once each, and how to get them."""
    for row in result["rows"]:
        if row["state"] == "refused":
            yield Text.assemble((row["runtime"], "red"), f" refused the network for {row['scheme']}: {row['why']}")
    for runtime, why in {row["runtime"]: row["why"] for row in result["rows"] if row["state"] == "absent"}.items():
        yield Text.assemble((runtime, "yellow"), f" was not asked: {why}")
