"""Verbs that run and look: run, detect, score, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lowwatt.cli.console import messages, output, print_json
from lowwatt.cli.options import Json, Labels, Pixels
from lowwatt.errors import ToolError

PROGRAM = ".lwp"


def run(
    file: Annotated[Path, typer.Argument(help="xmodel of either kind, ONNX, graph or program.", show_default=False)],
    input: Annotated[
        list[str], typer.Option("--input", "-i", metavar="[NAME=]x.npy", help="An input; repeat for several.")
    ],
    backend: Annotated[str, typer.Option("--backend", "-b", help="A backend of `lowwatt doctor`.")] = "reference",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder: one npy for each output, named after it.")] = Path(),
    json: Json = False,
) -> None:
    """Run a network on arrays; outputs are raw integers where the output is quantized.

    Example: lowwatt run detector_int.xmodel --input images=x.npy --backend core --out results
    """
    from lowwatt.verbs.run import run_file

    written = run_file(file, input, backend, out)
    if json:
        print_json(written)
        return
    for row in written:
        output.print(f"{row['file']}  {row['dtype']} {tuple(row['shape'])}  {row['meaning']}")


def detect(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE|FOLDER|GLOB|VIDEO|CAMERA...", help="What to see.", show_default=False),
    ],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Program, graph, model or ONNX; default: the packaged one.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images with boxes.")] = Path("detections"),
    backend: Annotated[str, typer.Option("--backend", "-b", help="auto, or a backend of `lowwatt doctor`.")] = "auto",
    conf: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Overlap above which the weaker box goes.")] = 0.65,
    max_det: Annotated[int, typer.Option(min=1, help="Most boxes of an image.")] = 100,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
    labels: Labels = None,
    pixels: Pixels = "",
    json: Json = False,
) -> None:
    """Draw the boxes of a detector on images: files, folders, videos, a camera's number or an rtsp:// address.

    Example: lowwatt detect photo.jpg
    """
    from lowwatt.verbs.detect import detect_images

    settings: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "labels": labels, "pixels": pixels}
    found = detect_images(sources, model, out, backend, strict=strict, tell=messages.print, **settings)
    rows: list[dict[str, Any]] = []
    try:
        for row in found:
            rows.append(row)
            if not json:
                output.print(_detected(row))
            if row["error"]:
                messages.print(row["error"])
    finally:
        found.close()
        if json and rows:  # what was found before an error or Ctrl-C is not lost
            print_json(rows)
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _detected(row: dict[str, Any]) -> str:
    """One image's line."""
    if not row["file"]:
        return f"{row['source']}: failed"
    names = ", ".join(f"{d['label']} {d['score']:.2f}" for d in row["detections"]) or "nothing found"
    return f"{row['source']} → {row['file']}: {names}"


def score(
    ap: Annotated[float, typer.Option("--ap", help="AP50:95 of the INT8 model, 0…1.")],
    energy_j: Annotated[float, typer.Option("--energy-j", help="Energy of the whole run, joules.")],
    fps: Annotated[float | None, typer.Option("--fps", help="Frames a second.")] = None,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", help="Milliseconds a frame, in place of fps.")
    ] = None,
    json: Json = False,
) -> None:
    """LPCV 2021 score: 10^4 / energy * max(AP - 0.2, 0) * max(fps - 5, 0).

    Example: lowwatt score --ap 0.274 --energy-j 416.239 --fps 40.723
    """
    from lowwatt.evaluate import score as lpcv_score

    value = lpcv_score(ap=ap, energy_j=energy_j, fps=fps, latency_ms=latency_ms)
    if json:
        print_json({"score": value})
    else:
        output.print(f"{value:.3f}")


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|PROGRAM", help="Folder of `produce`, its report.json, or a program (.lwp).", show_default=False
        ),
    ],
    compare: Annotated[Path | None, typer.Option(help="Another of the same kind to set beside it.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML to write; default: report.html in the folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the HTML report of a run again, or a comparison of two, and print the summary; print a program's layers.

    Example: lowwatt report demo --compare runs/other
    Example: lowwatt report best.lwp --compare vendor.lwp
    """
    from lowwatt.evaluate.report import summary_table
    from lowwatt.verbs.report import rebuild

    if folder.suffix == PROGRAM:
        _report_program(folder, compare, out, json)
        return
    result, path = rebuild(folder, compare, out)
    if json:
        typer.echo(result.to_json(), nl=False)
        return
    output.print(summary_table(result))
    output.print(f"report: {path}")


def _report_program(file: Path, compare: Path | None, out: Path | None, json: bool) -> None:
    """What a compiled program costs, layer by layer, or what differs from another one."""
    from lowwatt.cli.layers import print_program
    from lowwatt.compiler import Program

    if out is not None:
        raise ToolError("a program has no page of its own", where=str(file), hint="lowwatt produce writes report.html")
    other = Program.load(compare) if compare is not None else None
    print_program(Program.load(file), json or other is None, other, json)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (run, detect, score, report):
        app.command()(verb)
