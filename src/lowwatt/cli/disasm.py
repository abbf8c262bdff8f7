"""The verb disasm: instruction words of compiled files, ours and the vendor's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowwatt.cli.console import print_json

if TYPE_CHECKING:
    from lowwatt.verbs.disasm import Disassembly


def disasm(
    file: Annotated[
        Path, typer.Argument(help="A program (.lwp), a compiled .xmodel, or a DNNDK .elf.", show_default=False)
    ],
    layers: Annotated[
        bool, typer.Option("--layers", help="Also the single layers' programs that some of the vendor's files have.")
    ] = False,
    layer: Annotated[str, typer.Option(help="One layer alone, by its name.", show_default=False)] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the result as json on stdout.")] = False,
) -> None:
    """Print the DPU programs in a compiled file: instructions by layer, counts, and whether the tokens balance.

    Example: lowwatt disasm detector.lwp --layer head.cls
    Example: lowwatt disasm detector_zcu102.xmodel
    """
    from lowwatt.verbs.disasm import disassemble

    found = disassemble(file, layers, layer)
    if json:
        print_json([program.to_json() for program in found])
        return
    for program in found:
        for line in _lines(program):
            typer.echo(line)


def _lines(program: Disassembly) -> Iterator[str]:
    stream = program.stream
    core = "" if stream.fingerprint is None else f", fingerprint 0x{stream.fingerprint:x}"
    yield f"{stream.name}: {stream.isa.name}{core}, {len(stream.code)} bytes"
    yield from _listing(program)
    yield ""
    yield f"  {len(program.shown)} instructions: {_counts(program.by_name())}"
    yield f"  engines: {_counts(program.by_engine())}"
    if program.only is None:
        yield from _tokens(program)
    yield ""


def _listing(program: Disassembly) -> Iterator[str]:
    """Every run of instructions of one layer under the layer's name."""
    begun = set()
    for layer, positions in program.runs():
        if layer is not None:
            origin, at = f", from {layer.origin}" if layer.origin else "", program.bytes_of(positions)
            what = "continued" if layer.name in begun else f"{layer.op}{origin}"
            where = f"instructions {positions[0]} to {positions[-1]}, bytes 0x{at.start:x} to 0x{at.stop - 1:x}"
            yield f"  {layer.name}: {what}; {where}"
            begun.add(layer.name)
        yield from (f"  {offset:06x}  {line}" for offset, line in (program.lines[k] for k in positions))


def _tokens(program: Disassembly) -> Iterator[str]:
    for (producer, consumer), tokens in program.tokens.items():
        verdict = "" if tokens.balanced else "  NOT BALANCED"
        yield f"  tokens {producer} → {consumer}: {tokens.posted} posted, {tokens.taken} taken{verdict}"
    if program.stuck is not None:
        yield f"  instruction {program.stuck} waits for ever: {program.instructions[program.stuck].name}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(disasm)
