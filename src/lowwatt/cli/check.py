"""Verbs that look at what is there: data, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowwatt.cli.console import messages, output, print_json
from lowwatt.cli.options import Json

Folder = Annotated[
    Path,
    typer.Argument(
        help="Folder with images/ and COCO json files, or of YOLO, Pascal VOC or shards.", show_default=False
    ),
]

data = typer.Typer(no_args_is_help=True, help="Look at a data set, or make the embedded sample set.")


@data.command("check")
def check_data(
    folder: Folder,
    annotations: Annotated[
        list[str] | None, typer.Option(help="Annotation file, or split; default: every json there.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw a sheet of samples with their boxes to this image.")] = None,
    json: Json = False,
) -> None:
    """Find broken images, boxes outside images, unknown ids, empty classes; also in folders of classes or of masks,
    where images of val that are in train, too, are found.

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


@data.command()
def subset(
    annotations: Annotated[Path, typer.Argument(help="COCO json of any size.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="COCO json to write; the files to fetch go beside it.")],
    class_map: Annotated[
        str, typer.Option("--map", help="objects365-coco, or a YAML file of lines class: [name, …].")
    ] = "",
    images: Annotated[int, typer.Option(min=0, help="Images at most; 0: no limit.")] = 0,
    per_class: Annotated[int, typer.Option(min=0, help="Images of a class that are enough; 0: no limit.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    json: Json = False,
) -> None:
    """Take a class-balanced part of a large data set, in the classes of another.

    OUT's list, of the same name with .txt, names the image files to fetch, one a line.

    Example: lowwatt data subset zhiyuan_objv2_train.json o365.json --map objects365-coco --images 200000
    """
    from lowwatt.data.class_maps import read_class_map
    from lowwatt.data.subset import make_subset

    mapped = read_class_map(class_map) if class_map else None
    made = make_subset(annotations, out, mapped, images=images, per_class=per_class, seed=seed)
    if json:
        print_json({"annotations": str(made.annotations), "files": str(made.files), "images": made.images,
                    "boxes": made.boxes, "absent": made.absent, "skipped": made.skipped})  # fmt: skip
        return
    for name, count in made.boxes.items():
        output.print(f"{count:9,}  {name}")
    output.print(f"{made.images} images, {sum(made.boxes.values()):,} boxes: {made.annotations}, {made.files}")
    if made.absent:
        messages.print(f"not in the file: {', '.join(made.absent)}")
    if made.skipped:
        messages.print(f"{made.skipped} rows without ids were left out")


@data.command()
def shard(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="Folder to write the shards and their index to.", show_default=False)],
    annotations: Annotated[
        list[str] | None, typer.Option(help="Annotation file, or split; default: every json there.")
    ] = None,
    megabytes: Annotated[float, typer.Option(min=0.001, help="Images of one shard at most, MB.")] = 1000,
    json: Json = False,
) -> None:
    """Pack a data set into tar files with an index, which train, eval and check read without unpacking.

    Shards may be moved to other disks afterwards: data.roots names the folders.

    Example: lowwatt data shard o365 /disk1/o365 --megabytes 2000
    """
    from lowwatt.verbs.data import shard_folder

    rows = shard_folder(folder, out, annotations or [], megabytes)
    if json:
        print_json(rows)
        return
    for row in rows:
        output.print(f"{row['split']}: {row['images']} images, {row['boxes']} boxes")
        if row["left_out"]:
            messages.print(f"  {len(row['left_out'])} left out, unreadable: {', '.join(row['left_out'][:5])}")


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
