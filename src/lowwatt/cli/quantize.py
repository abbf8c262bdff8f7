"""The quantize verb: integers for a target, with accuracy before and after, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowwatt.cli.console import StageProgress, messages, output, print_json, print_table
from lowwatt.cli.options import Json, Labels, Pixels, Target
from lowwatt.errors import ToolError
from lowwatt.recipe import load_recipe

if TYPE_CHECKING:
    from lowwatt.quant.effort import StepNote
    from lowwatt.quant.sensitivity import LayerError

FLOAT_SHOWN = 3
LAYERS_SHOWN = 20

ReportPage = Annotated[
    Path | None,
    typer.Option(help="Page to write (.html): accuracy, steps, error of each layer (as --analyse), the plan."),
]


Source = Annotated[Path, typer.Argument(help="Trained model, float graph or ONNX.", show_default=False)]
Data = Annotated[
    str, typer.Option(help="Folder to calibrate and measure on: a COCO data set, classes, masks, or sample.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Quantized graph to write.")]
Scheme = Annotated[
    str, typer.Option("--scheme", "-s", help="Target's number format: vitis, onnxruntime, … or your own .yaml.")
]
Effort = Annotated[str, typer.Option(help="fast (seconds), good (minutes) or best (an hour).")]
Calibration = Annotated[str, typer.Option(help="minmax, ema, percentile, mse, kl or lsq; default: the scheme's.")]
Bits = Annotated[str, typer.Option(help="Bits of weights and activations, as W4A8; default: the scheme's.")]
FloatShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the work that may stay in float, where most is lost.")
]
SizeShare = Annotated[
    float, typer.Option(min=0.1, max=1, help="Fewer bits where they cost least, until the weights take this share.")
]
KeepDb = Annotated[float | None, typer.Option(help="As few bits as keep this signal to noise at the outputs, dB.")]
MaxMs = Annotated[
    float | None, typer.Option(help="Layers that lose most stay in float while a frame takes no more on --target.")
]
Images = Annotated[int, typer.Option(min=1, help="Calibration images, from the training split.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write the target's files with made-up ranges to try them, and stop.")
]
Explain = Annotated[bool, typer.Option("--explain", help="Print which rule puts integers on which tensor, and stop.")]
Analyse = Annotated[
    bool, typer.Option("--analyse", help="Print the error of each layer, and what 16 bits there would gain.")
]
MaxDrop = Annotated[float, typer.Option(min=0, help="AP, top-1 or mIoU (0…1) lost above which the verdict is red.")]
Evaluate = Annotated[bool, typer.Option(help="Measure accuracy before and after on the val split.")]


def quantize(
    file: Source,
    data: Data = "sample",
    out: Out = Path("quantized.lwg"),
    scheme: Scheme = "vitis",
    effort: Effort = "fast",
    calibration: Calibration = "",
    bits: Bits = "",
    float_share: FloatShare = 0.0,
    size_share: SizeShare = 1.0,
    keep_db: KeepDb = None,
    max_ms: MaxMs = None,
    target: Target = "",
    images: Images = 128,
    labels: Labels = None,
    pixels: Pixels = "",
    dry_run: DryRun = False,
    explain: Explain = False,
    analyse: Analyse = False,
    report: ReportPage = None,
    max_drop: MaxDrop = 0.05,
    evaluate: Evaluate = True,
    json: Json = False,
) -> None:
    """Quantize to integers and print accuracy before and after: FP32, fake-quantized, as the target computes.

    Example: lowwatt quantize runs/train/model.safetensors --data coco -o quantized.lwg
    Example: lowwatt quantize yolox_nano.onnx --data coco --scheme onnxruntime --effort good
    Example: lowwatt quantize model.safetensors --scheme academic --bits W4A4 --explain
    Example: lowwatt quantize model.safetensors --data coco --report quant.html
    """
    from lowwatt.verbs.compile import DEFAULT_TARGET
    from lowwatt.verbs.quantize import QuantizeJob, dry_run_file, explain_file, quantize_file

    budget = {"float_share": float_share, "size_share": size_share, "keep_db": keep_db, "max_ms": max_ms}
    given = {"scheme": scheme, "effort": effort, "images": images, "max_drop": max_drop, **budget}
    settings = load_recipe(None, _overrides(given, calibration, bits)).quant
    job = QuantizeJob(file, data, out, settings, labels, pixels, evaluate, analyse, report, target or DEFAULT_TARGET)
    if explain or dry_run:
        lines = explain_file(file, settings, labels).explain() if explain else dry_run_file(job)
        print_json(lines) if json else output.print("\n".join(lines))
        return
    result = quantize_file(job, StageProgress, messages.print)
    if json:
        print_json({key: _plain(value) for key, value in result.items()})
    else:
        _print(result)
    print_verdict(result["verdict"])


def print_verdict(text: str) -> None:
    """A red verdict, where there is one, ends the command with status 1."""
    if text:
        messages.print("verdict: ", style="bold red", end="")
        messages.print(text)
        raise typer.Exit(1)


def print_accuracy(measure: str, accuracy: dict[str, float]) -> None:
    """A line for each stage, with what it lost of FP32."""
    before = accuracy.get("FP32", 0.0)
    for stage, value in accuracy.items():
        lost = f"  ({value - before:+.4f}, {value / before - 1:+.1%})" if stage != "FP32" and before else ""
        output.print(f"{stage:12} {measure} {value:.4f}{lost}")


def _overrides(given: dict[str, Any], calibration: str, bits: str) -> list[str]:
    """The options as settings of a recipe's `quant` section, which checks them."""
    found = [f"quant.{key}={value}" for key, value in given.items() if value is not None]
    if calibration:
        found.append(f"quant.calibration={calibration}")
    if (given["float_share"] or given["max_ms"]) and given["effort"] == "fast":
        option = "--float-share" if given["float_share"] else "--max-ms"
        raise ToolError(f"{option} compares layers, which takes a minute", hint="add --effort good")
    if bits:
        weights, letter, activations = bits.upper().removeprefix("W").partition("A")
        if not (letter and weights.isdigit() and activations.isdigit()):
            raise ToolError(f"cannot read --bits {bits}", hint="write W4A8 for 4-bit weights and 8-bit activations")
        found += [f"quant.weight_bits={weights}", f"quant.activation_bits={activations}"]
    return found


def _plain(value: Any) -> Any:
    """A value of the result as json has it: records become tables."""
    if not isinstance(value, list):
        return value
    return [dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v for v in value]


def _print(result: dict[str, Any]) -> None:
    for line in result["warnings"]:
        messages.print("warning: ", style="bold yellow", end="")
        messages.print(line)
    for op, nodes in result["float"].items():
        more = f" and {len(nodes) - FLOAT_SHOWN} more" if len(nodes) > FLOAT_SHOWN else ""
        messages.print(f"{op} stays in float on {result['scheme']}: {', '.join(nodes[:FLOAT_SHOWN])}{more}")
    _print_steps(result["steps"])
    if result["layers"]:
        _print_layers(result["layers"])
    print_accuracy(result["measure"], result["accuracy"])
    output.print(f"quantized: {result['quantized']}")
    if result["report"]:
        output.print(f"report: {result['report']}")


def _print_steps(notes: Sequence[StepNote]) -> None:
    for note in notes:
        kept = "" if note.kept else "  (taken back: it did not help)"
        messages.print(
            f"{note.name:19} {note.seconds:6.1f} s  outputs {note.snr_db:5.1f} dB  loss {note.loss:.4f}{kept}"
        )


def _print_layers(rows: Sequence[LayerError]) -> None:
    """The layers from which most is to be gained first."""
    from rich.table import Table

    branches = list(rows[0].alone)[:3]
    table = Table(box=None, header_style="bold")
    table.add_column("layer")
    for title in ("op", "bits", *(f"alone: {b}" for b in branches), "accumulated", "cosine", "16 bits gain"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -row.gain)[:LAYERS_SHOWN]:
        alone = [f"{row.alone[b]:.1f}" for b in branches]
        values = [row.op, str(row.bits), *alone, f"{row.accumulated:.1f}", f"{row.cosine:.4f}", f"{row.gain:+.2f} dB"]
        table.add_row(row.node, *values)
    print_table(table)
    if len(rows) > LAYERS_SHOWN:
        output.print(f"… and {len(rows) - LAYERS_SHOWN} layers with less to gain (all of them: --json)")
    output.print("dB: signal to noise of the network's outputs (alone), of the layer's own output (accumulated)")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(quantize)
