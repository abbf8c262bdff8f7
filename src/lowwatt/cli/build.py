"""Verbs that turn a graph into what the chip takes: export, compile, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lowwatt.cli.console import messages, output, print_json
from lowwatt.cli.options import Json, Network, Overrides, Schedule, Target
from lowwatt.errors import ToolError


def export(
    file: Annotated[Path, typer.Argument(help="Graph, model or program.", show_default=False)],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="xmodel (for vai_c_xir), qdq (ONNX with QDQ), qdq-fast (the same of the DPU's integers for "
            "onnxruntime's INT8 kernels), deploy (float ONNX and ranges as JSON, for TensorRT and SNPE), ncnn (.param, "
            ".bin and calibration table), tflite (for LiteRT), onnx (float), or xmodel-compiled (of a program, or of a "
            "graph compiled for --target; experimental: no board has run one). By default what the graph's scheme is "
            "for.",
            show_default=False,
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, by default beside FILE; of --all a folder.")
    ] = None,
    machine: Target = "",
    every: Annotated[
        bool, typer.Option("--all", help="For every target, run on every runtime that is here, in one table.")
    ] = False,
    data: Annotated[str, typer.Option(help="Of --all: folder of the data set, or sample for the embedded one.")] = (
        "sample"
    ),
    images: Annotated[int, typer.Option(min=1, help="Of --all: images for calibration.")] = 128,
    limit: Annotated[int, typer.Option(min=0, help="Of --all: score the first N images; 0: all.")] = 0,
    scheme: Annotated[list[str] | None, typer.Option(help="Of --all: this target only; repeat for several.")] = None,
    effort: Annotated[str, typer.Option(help="Of --all: fast (seconds a target), good (minutes) or best.")] = "fast",
    max_drop: Annotated[
        float, typer.Option(min=0, help="Of --all: AP, top-1 or mIoU lost above which the verdict is red.")
    ] = 0.05,
    json: Json = False,
) -> None:
    """Write what the target's tools read: xmodel, ONNX with QDQ, float ONNX with ranges; validated on the spot.

    Beside an xmodel stand the command that compiles it and the arch.json of --target. --format xmodel-compiled writes
    what the vendor's runtime loads, without the vendor's compiler: experimental, no board has run such a file.

    Example: lowwatt export quantized.lwg --format xmodel -o detector_int.xmodel
    Example: lowwatt export quantized.lwg --format deploy -o detector_qmodel.onnx
    Example: lowwatt export detector.lwp --format xmodel-compiled -o detector.xmodel
    Example: lowwatt export runs/train/model.safetensors --all --data coco -o exported
    """
    from lowwatt.verbs.export import export_file

    if every:
        settings: dict[str, Any] = {"effort": effort, "max_drop": max_drop, "schemes": tuple(scheme or ())}
        _export_all(
            file, out or Path("exported"), json, root=data, images=images, limit=limit, target=machine, **settings
        )
        return

    result = export_file(file, out, format, machine)
    if json:
        print_json(result)
        return
    output.print(f"{result['format']}: {result['file']}")
    for line in result["proof"]:
        output.print(f"  {line}")


def _export_all(file: Path, out: Path, json: bool, **settings: Any) -> None:
    from lowwatt.cli.console import StageProgress, print_table
    from lowwatt.cli.quantize import print_verdict
    from lowwatt.cli.tables import runtimes_table, without_figures
    from lowwatt.verbs.export_all import ExportAllJob, export_all

    job = ExportAllJob(file, out, **settings)
    result = export_all(job, StageProgress, messages.print)
    if json:
        print_json(result)
    else:
        for row in result["files"]:
            output.print(f"{row['file']}: " + (row["error"] or f"{row['bytes'] / 1e6:.1f} MB"))
        print_table(runtimes_table(result))
        for line in without_figures(result):
            messages.print(line)
    print_verdict(result["verdict"])


def compile_(
    file: Network,
    overrides: Overrides = None,
    target: Target = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Program to write (.lwp).")] = None,
    schedule: Schedule = "",
    layers: Annotated[
        bool, typer.Option(help="Print a row for each layer, and their sum; all of it by --json.")
    ] = False,
    compare: Annotated[Path | None, typer.Option(help="Another program (.lwp) to set beside it.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write when each instruction runs (.json, for ui.perfetto.dev).")
    ] = None,
    json: Json = False,
) -> None:
    """Compile for a machine: instruction words, operator verdicts, cycles, bytes and milliseconds of each layer.

    Example: lowwatt compile quantized.lwg --target ultra96v2-lpcv --json
    Example: lowwatt compile quantized.lwg --schedule best --layers --trace trace.json
    """
    from lowwatt.cli.layers import print_program
    from lowwatt.cli.tables import verdict_lines
    from lowwatt.compiler import Program
    from lowwatt.verbs.compile import compile_file, write_files

    other = Program.load(compare) if compare is not None else None
    program = compile_file(file, target or None, overrides or [], schedule or None)
    written = write_files(program, out, trace)
    for verdict in () if json else verdict_lines(program.verdicts):
        messages.print(verdict)
    print_program(program, layers, other, json)
    for line in () if json else written:
        output.print(line)


def check(
    file: Network,
    overrides: Overrides = None,
    target: Target = "",
    rewrite: Annotated[bool, typer.Option("--rewrite", help="Apply exact rewrites, and prove them.")] = False,
    inexact: Annotated[
        bool, typer.Option("--inexact", help="Also put like functions in; needs fine-tuning after it.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Rewritten graph to write (.lwg).")] = None,
    least_macs: Annotated[
        int, typer.Option(min=0, help="Send accelerator parts of fewer multiply-accumulates to the host.")
    ] = 0,
    json: Json = False,
) -> None:
    """Name every operator that leaves the accelerator, why, and what to change. Needs no training.

    Example: lowwatt check recipes/yolox_fpga_320.yaml model.activation=silu --target kv260
    Example: lowwatt check yolox_nano.onnx --rewrite -o rewritten.lwg
    """
    import dataclasses

    from lowwatt.cli.tables import standing_line, verdict_lines
    from lowwatt.verbs.compile import check_file

    if rewrite:
        _rewrite(file, target or None, overrides or [], out, inexact, json)
        return
    if inexact or out is not None:
        raise ToolError("only a rewrite changes the network", hint="add --rewrite")
    verdicts, standing = check_file(file, target or None, overrides or [], least_macs)
    if json:
        print_json([dataclasses.asdict(v) for v in verdicts])
    else:
        for line in verdict_lines(verdicts):
            output.print(line)
        output.print(standing_line(standing))
    if standing.on_host:
        raise typer.Exit(1)


def _rewrite(file: Path, target: str | None, overrides: list[str], out: Path | None, inexact: bool, json: bool) -> None:
    """Rewrite, and print what changed and what still leaves the accelerator."""
    from lowwatt.cli.tables import rewrite_lines
    from lowwatt.verbs.rewrite import rewrite_file

    report = rewrite_file(file, target, overrides, out, inexact)
    if json:
        print_json(report.to_json())
    else:
        for line in rewrite_lines(report):
            output.print(line)
        if out is not None:
            output.print(f"rewritten: {out}")
    if report.after.on_host:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(export)
    app.command("compile")(compile_)
    app.command()(check)
