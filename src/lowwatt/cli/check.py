"""Verbs that look at what is there: data, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowwatt.cli.console import messages, output, print_json
from lowwatt.cli.options import Json

Folder = Annotated[Path, typer.Argument(help="Folder with images/ and COCO json files.", show_default=False)]

data = typer.Typer(no_args_is_help=True, help="Look at a data set, or make the embedded sample set.")


@data.command("check")
def check_data(
    folder: Folder,
    annotations: Annotated[list[str] | None, typer.Option(help="Annotation file; default: every json there.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw a sheet of samples with their boxes to this image.")] = None,
    json: Json = False,
) -> None:
    """Find broken images, boxes outside images, unknown ids, empty classes.

    Example: lowwatt data check coco --sheet sheet.jpg
    """
    from lowwatt.verbs.data import check_folder

    rows = check_folder(folder, annotations or [], sheet)
    if json:
        print_json(rows)
    else:
        for row in rows:
            output.print(f"{row['level']:8} ", style="red" if row["level"] == "error" else "yellow", end="")
            output.print(f"{row['file']}: {row['kind']}: {row['where']}: {row['what']}")
    errors = sum(row["level"] == "error" for row in rows)
    messages.print(f"{errors} errors, {sum(row['level'] == 'warning' for row in rows)} warnings")
    if errors:
        raise typer.Exit(1)


@data.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 600,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = 150,
    size: Annotated[int, typer.Option(min=32, help="Side of an image, pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make the sample set: scenes of real handwritten digits in COCO format.

    Example: lowwatt data sample digits --train 600 --val 150
    """
    from lowwatt.verbs.data import make_sample_set

    make_sample_set(folder, train, val, size, seed)
    output.print(f"sample set: {folder}")


def doctor(json: Json = False) -> None:
    """Show which backends and machines are usable here, and how to get the others.

    Example: lowwatt doctor
    """
    from lowwatt.cli.tables import doctor_table
    from lowwatt.verbs.doctor import examine

    rows = examine()
    if json:
        print_json(rows)
    else:
        output.print(doctor_table(rows))
    if not all(row["usable"] for row in rows if row["needed"]):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(data, name="data")
    app.command()(doctor)
