"""Verbs that make and measure a model: produce, train, eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lowwatt.cli.console import StageProgress, messages, output, print_json, stage_done
from lowwatt.cli.options import Json, Labels, Overrides, Pixels
from lowwatt.ranks import rank
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
    """Train the recipe's detector, classifier or segmenter; writes OUT/model.safetensors and the log.

    A network that the recipe's target cannot run is refused before the first step. Ctrl-C saves the step it comes in.

    Example: lowwatt train recipes/demo.yaml train.epochs=5 --out runs/short
    Example: torchrun --nproc-per-node 4 -m lowwatt train recipes/yolox_fpga_320.yaml --out runs/four
    """
    from lowwatt.verbs.produce import Road

    road = Road(load_recipe(recipe, overrides or []), out, listener=stage_done, progress=StageProgress)
    model = road.train(resume=resume)
    if rank() > 0:
        return
    if json:
        print_json({"model": str(road.model_path), **model.info})
    else:
        output.print(f"model: {road.model_path}")


def qat(
    model: Annotated[Path, typer.Argument(help="Trained model (.safetensors).", show_default=False)],
    overrides: Overrides = None,
    data: Annotated[
        str, typer.Option(help="Folder of the data set that it was trained on: boxes, classes or masks.")
    ] = "sample",
    out: OutFolder = Path("runs/qat"),
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run in the same folder.")] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, help="AP, top-1 or mIoU (0…1) lost above which the verdict is red.")
    ] = 0.05,
    json: Json = False,
) -> None:
    """Fine-tune a trained model on the integers of its target; prints accuracy before and after.

    Settings are those of a recipe's qat section. The model keeps its own names, and loads where the float model did.

    Example: lowwatt qat runs/a/model.safetensors --data coco qat.epochs=2 qat.quantizer=lsq --out runs/qat
    """
    from lowwatt.cli.quantize import print_accuracy, print_verdict
    from lowwatt.verbs.qat import QatJob, qat_file

    result = qat_file(QatJob(model, data, out, overrides or [], resume, max_drop), StageProgress, messages.print)
    if json:
        print_json(result)
    else:
        print_accuracy(result["measure"], result["accuracy"])
        output.print(f"model: {result['model']}")
        output.print(f"quantized: {result['quantized']}")
    print_verdict(result["verdict"])


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(help="Model, graph, program or xmodel with a head, or a published ONNX.", show_default=False),
    ],
    data: Annotated[str, typer.Option(help="Folder of the data set, or sample for the embedded one.")] = "sample",
    annotations: Annotated[
        str, typer.Option(help="Annotation file there; of classes and masks the split.")
    ] = "val.json",
    backend: Annotated[str, typer.Option(help="A backend of `lowwatt doctor`; auto picks by the file.")] = "auto",
    limit: Annotated[int, typer.Option(min=0, help="Use the first N images; 0: all.")] = 0,
    labels: Labels = None,
    pixels: Pixels = "",
    json: Json = False,
) -> None:
    """Measure AP of a detector, top-1 and top-5 of a classifier, or mIoU of a segmenter, on a labelled data set.

    A classifier's folder holds val/CLASS/*.jpg, or images/ and labels.txt: FILE CLASS, one line an image; a
    segmenter's holds val/images and val/masks.

    Example: lowwatt eval runs/train/model.safetensors --data coco
    Example: lowwatt eval yolox_nano.onnx --data coco
    Example: lowwatt eval mobilenetv2.onnx --data imagenet
    """
    from lowwatt.verbs.evaluate import evaluate_file

    progress = StageProgress("eval")
    foreign: dict[str, Any] = {"labels": labels, "pixels": pixels, "tell": messages.print}
    table = evaluate_file(file, data, annotations, backend, limit, progress, **foreign)
    if json:
        print_json(table)
    else:
        output.print("\n".join(f"{key:8} {value:.4f}" for key, value in table.items() if isinstance(value, float)))


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(produce)
    app.command()(train)
    app.command()(qat)
    app.command("eval")(evaluate)
