"""The verb targets: machines listed, described and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lowwatt.cli.console import messages, output, print_json, print_table
from lowwatt.cli.options import Json

if TYPE_CHECKING:
    from lowwatt.targets import Target

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MACHINE]...",
        help="Board, core (DPUCZDX8G_…), fingerprint (0x…), .hwh, arch.json, YAML file, or CORE@BOARD.",
        show_default=False,
    ),
]


def targets(machines: Names = None, json: Json = False) -> None:
    """List the machines that lowwatt knows; describe one, or compare several, by any name that --target takes.

    Example: lowwatt targets 0x101000016010407 0x101000056010407
    """
    from lowwatt.verbs.targets import open_targets, to_json

    found = open_targets(machines or [])
    if json:
        print_json([to_json(target) for target in found])
    elif not machines:
        print_table(_list(found))
        messages.print(_MORE)
    else:
        _compare(found)


def _list(found: Sequence[Target]) -> Table:
    table = _table()
    for title, right in _COLUMNS.items():
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=title != "what it is")
    for target in found:
        table.add_row(
            target.name,
            target.array.name,
            f"ISA{target.isa}",
            str(target.image_groups),
            f"{target.clock_mhz:g}",
            f"{target.peak_gops:.0f}",
            f"{target.fingerprint:#x}",
            target.description,
        )
    return table


_COLUMNS = {
    "machine": False,
    "array": False,
    "set": False,
    "groups": True,
    "MHz": True,
    "GOPS": True,
    "fingerprint": False,
    "what it is": False,
}


def _compare(found: Sequence[Target]) -> None:
    """Properties side by side; what differs stands out. Several machines also say whose programs run where."""
    from lowwatt.verbs.targets import operators, properties, same_programs

    table = _table()
    for title in ("", *(target.name for target in found)):
        table.add_column(title, overflow="fold")
    for row in (*properties(found), *operators(found)):
        table.add_row("≠ " + row.name if row.differs else row.name, *row.values, style="bold" if row.differs else "")
    print_table(table)
    if len(found) > 1:
        same = "one fingerprint: a program compiled for one runs on the others"
        output.print(f"\n{same if same_programs(found) else _OTHERS}")


_MORE = """
`lowwatt targets MACHINE…` describes one and compares several. Any core will do where a machine is asked for: a name
(DPUCZDX8G_ISA1_B4096), a fingerprint (0x…), a .hwh or an arch.json, each also on a board of this list (CORE@kv260)."""
_OTHERS = """fingerprints differ: the vendor's runtime refuses a program that was compiled for another core.
Compile for the one you have; to the vendor's compiler, arch.json names it: {"fingerprint": "0x…"}"""


def _table() -> Table:
    return Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(targets)
