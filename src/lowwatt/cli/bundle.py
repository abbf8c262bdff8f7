"""The bundle verb: what goes to a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowwatt.cli.console import messages, output, print_json
from lowwatt.cli.options import Json


def bundle(
    file: Annotated[Path, typer.Argument(metavar="PROGRAM", help="Compiled program (.lwp).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Archive to write (.tar.gz).")] = Path("board.tar.gz"),
    xmodel: Annotated[
        Path | None,
        typer.Option(
            help="File for the DPU, from vai_c_xir; by default lowwatt's own (experimental).", show_default=False
        ),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture to take along; repeat for several.", show_default=False)
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="How many pictures of the sample set to take along.")] = 2,
    json: Json = False,
) -> None:
    """Make one archive for a board: program, xmodel, a runtime that needs NumPy and OpenCV only, and instructions.

    Its README.md says step by step what to do on an Ultra96-V2 or a KV260. The same input gives the same bytes.

    Example: lowwatt bundle detector.lwp --out board.tar.gz
    Example: lowwatt bundle detector.lwp --xmodel detector.xmodel --image street.jpg --images 0
    """
    from lowwatt.verbs.bundle import Bundle, bundle_file

    result = bundle_file(Bundle(file, xmodel, image or [], images), out)
    if json:
        print_json(result)
        return
    for note in result["notes"]:
        messages.print(note)
    output.print(f"bundle: {result['file']} ({result['bytes'] / 1e6:.1f} MB, {len(result['members'])} files)")
    output.print(f"on the board: tar xzf {Path(result['file']).name}, then {result['folder']}/README.md")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(bundle)
