"""Verbs that make and measure a model: produce, train, eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowwatt.cli.console import StageProgress, messages, output, print_json, stage_done
from lowwatt.cli.options import Json, Labels, Overrides
from lowwatt.recipe import load_recipe

RecipePath = Annotated[Path, typer.Argument(help="Recipe (YAML); recipes/ holds examples.", show_default=False)]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that the command makes.")]


def produce(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: OutFolder = Path("runs/produce"),
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training in the same folder.")] = False,
    json: Json = False,
) -> None:
    """Drive the whole road: train, capture, quantize, export, compile, run, score, report.

    Example: lowwatt produce recipes/demo.yaml --out demo
    """
    from lowwatt.evaluate.report import summary_table
    from lowwatt.verbs.produce import Road

    road = Road(load_recipe(recipe, overrides or []), out, listener=stage_done, progress=StageProgress)
    report = road.produce(resume=resume)
    if json:
        typer.echo(report.to_json(), nl=False)
    else:
        output.print(summary_table(report))
        output.print(f"report: {road.out / 'report.html'}")
    if road.warning:
        messages.print(f"[bold yellow]warning:[/] {road.warning}")
    if road.verdict:
        messages.print("verdict: ", style="bold red", end="")
        messages.print(road.verdict)
        raise typer.Exit(1)


def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: OutFolder = Path("runs/train"),
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run in the same folder.")] = False,
    json: Json = False,
) -> None:
    """Train the recipe's model; writes OUT/model.safetensors and the log.

    Example: lowwatt train recipes/demo.yaml train.epochs=5 --out runs/short
    """
    from lowwatt.verbs.produce import Road

    road = Road(load_recipe(recipe, overrides or []), out, listener=stage_done, progress=StageProgress)
    model = road.train(resume=resume)
    if json:
        print_json({"model": str(road.model_path), **model.info})
    else:
        output.print(f"model: {road.model_path}")


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(help="Model, graph, program or xmodel with a head, or a published ONNX.", show_default=False),
    ],
    data: Annotated[str, typer.Option(help="Folder of a COCO data set, or sample for the embedded set.")] = "sample",
    annotations: Annotated[str, typer.Option(help="Annotation file in that folder.")] = "val.json",
    backend: Annotated[
        str, typer.Option(help="reference, core, onnxruntime or simulator; auto picks by the file.")
    ] = "auto",
    limit: Annotated[int, typer.Option(min=0, help="Use the first N images; 0: all.")] = 0,
    labels: Labels = None,
    json: Json = False,
) -> None:
    """Measure AP on a labelled data set.

    Example: lowwatt eval runs/train/model.safetensors --data coco
    Example: lowwatt eval yolox_nano.onnx --data coco
    """
    from lowwatt.verbs.evaluate import evaluate_file

    progress = StageProgress("eval")
    ap = evaluate_file(file, data, annotations, backend, limit, progress, labels=labels, tell=messages.print)
    if json:
        print_json(ap)
    else:
        output.print("\n".join(f"{key:8} {value:.4f}" for key, value in ap.items() if isinstance(value, float)))


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(produce)
    app.command()(train)
    app.command("eval")(evaluate)
