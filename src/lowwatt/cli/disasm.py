"""The verb disasm: instruction words of compiled files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowwatt.cli.console import print_json

if TYPE_CHECKING:
    from lowwatt.verbs.disasm import Disassembly


def disasm(
    file: Annotated[Path, typer.Argument(help="A compiled .xmodel, or a DNNDK .elf.", show_default=False)],
    layers: Annotated[
        bool, typer.Option("--layers", help="Also the single layers' programs that some files have.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as json on stdout.")] = False,
) -> None:
    """Print the DPU programs in a file that the vendor compiled: instructions, counts, and whether the tokens balance.

    Example: lowwatt disasm detector_zcu102.xmodel
    """
    from lowwatt.verbs.disasm import disassemble

    found = disassemble(file, layers)
    if json:
        print_json([program.to_json() for program in found])
        return
    for program in found:
        for line in _lines(program):
            typer.echo(line)


def _lines(program: Disassembly) -> Iterator[str]:
    from lowwatt.compiler.isa import listing

    stream = program.stream
    core = "" if stream.fingerprint is None else f", fingerprint 0x{stream.fingerprint:x}"
    yield f"{stream.name}: {stream.isa.name}{core}, {len(stream.code)} bytes"
    yield from (f"  {offset:06x}  {line}" for offset, line in listing(program.instructions))
    yield ""
    yield f"  {len(program.instructions)} instructions: {_counts(program.by_name())}"
    yield f"  engines: {_counts(program.by_engine())}"
    for (producer, consumer), tokens in program.tokens.items():
        verdict = "" if tokens.balanced else "  NOT BALANCED"
        yield f"  tokens {producer} → {consumer}: {tokens.posted} posted, {tokens.taken} taken{verdict}"
    if program.stuck is not None:
        yield f"  instruction {program.stuck} waits for ever: {program.instructions[program.stuck].name}"
    yield ""


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(disasm)
