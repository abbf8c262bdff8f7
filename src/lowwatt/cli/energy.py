"""Verbs of power and energy: power, lpcv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lowwatt.cli.console import StageProgress, messages, output, print_json, print_table
from lowwatt.cli.options import Json, Target

Rails = Annotated[
    list[str] | None,
    typer.Option("--rail", help="Rails that count, by name; repeat for several. Default: those that are the whole."),
]


def power(
    meter: Annotated[
        str, typer.Option("--meter", help="One of pmbus, rapl, nvml, trace:FILE; default: all that measure here.")
    ] = "",
    rail: Rails = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="How long to look; 0: until Ctrl-C. Default: 0.5, with --record 0.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="CSV file of the power at each time to write.")] = None,
    json: Json = False,
) -> None:
    """Show the power meters of this machine, their rails, and what they read.

    Example: lowwatt power --seconds 5
    Example: lowwatt power --meter pmbus --record trace.csv
    """
    from lowwatt.verbs.power import read_power

    span = seconds if seconds is not None else 0.5 if record is None else 0.0
    rows = read_power(meter, rail or [], span, record)
    if json:
        print_json(rows)
    else:
        print_table(_power_table(rows))
    for row in rows:
        for gap in row.get("gaps", ()):
            messages.print(f"{row['meter']}: no reading for {gap['seconds']:.3f} s: {gap['why']}")
    if record is not None:
        messages.print(f"trace: {record}")


def _power_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("meter", "rail", "W", "J", "what")
    for row in rows:
        for name, rail in row.get("rails", {}).items():
            watts = rail["joules"] / row["seconds"]
            part = "" if rail["counted"] else "  (part of another)"
            feeds = row["feeds"].get(name, "") + part
            table.add_row(row["meter"], name, f"{watts:.3f}", f"{rail['joules']:.3f}", feeds)
        if not row["usable"]:
            table.add_row(row["meter"], "no", "", "", " → ".join(filter(None, (row["why"], row["how"]))))
    return table


def lpcv(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="Folder or pattern of images.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.json, results.xml and report.json.")],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Program, graph, model or ONNX; default: the packaged one.")
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="simulator, or what runs on this machine: auto, core, onnxruntime, …")
    ] = "simulator",
    target: Target = "",
    meter: Annotated[
        str, typer.Option("--meter", help="auto, pmbus, rapl, nvml, modelled or trace:FILE (`lowwatt power`).")
    ] = "auto",
    rail: Rails = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", "-a", help="COCO json of these images, for AP and score.")
    ] = None,
    number: Annotated[int, typer.Option("--images", "-n", min=0, help="The first so many images; 0: all.")] = 0,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Images to run before the clock starts.")] = 8,
    json: Json = False,
) -> None:
    """Run a detector as the LPCV 2021 contest does: results in its formats, time, energy, score.

    On the simulator time and energy are the target's, modelled; on any other backend they are this machine's.

    Example: lowwatt lpcv images --model detector.lwp --out lpcv --annotations instances_val2017.json
    """
    from lowwatt.verbs.lpcv import run_contest

    report = run_contest(
        images, model, out, backend, target=target, meter=meter, rails=rail or [], annotations=annotations,
        limit=number, warm_up=warmup, progress=StageProgress("lpcv"),
    )  # fmt: skip
    if json:
        print_json(report)
    else:
        print_table(_contest_table(report))
        output.print(f"\nwritten to {out}: results.json, results.xml, report.json")
    for line in _remarks(report):
        messages.print(line)
    if report["failed"]:
        raise typer.Exit(1)


def _contest_table(report: dict[str, Any]) -> Table:
    taken, energy, table = report["time"], report["energy"], _table("", "", "where it comes from")
    failed = f", {len(report['failed'])} failed" if report["failed"] else ""
    table.add_row("images", f"{report['images']}{failed}", f"{report['model']} on the backend {report['backend']}")
    table.add_row("detections", str(report["detections"]), "score above 0.01, at most 300 an image, best first")
    table.add_row("time", f"{taken['seconds']:.3f} s", f"{taken['how']}: {taken['provenance']}")
    if taken["how"] == "modelled":
        table.add_row("", f"{taken['wall_seconds']:.3f} s", "this computer, for the simulation; not scored")
    table.add_row("frames", f"{taken['fps']:.3f} a second", f"{taken['ms_per_frame']:.3f} ms each")
    if energy is not None:
        rails = ", ".join(energy["counted"])
        table.add_row("energy", f"{energy['joules']:.4g} J", f"{energy['how']}, rail {rails}, {energy['watts']:.3f} W")
        table.add_row("", f"{1000 * energy['joules_per_image']:.4g} mJ each", energy["provenance"])
    if report["ap"] is not None:
        table.add_row("AP", f"{report['ap']:.4f}", "COCO, IoU .50:.95, of these images")
    if report["score"] is not None:
        table.add_row("score", f"{report['score']:.3f}", "10^4 / energy x max(AP - 0.2, 0) x max(fps - 5, 0)")
    return table


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    """What a reader of the figures has to know."""
    for failure in report["failed"]:
        yield f"failed, counted as no detections: {failure['why']}"
    taken, energy = report["time"], report["energy"]
    if energy is None:
        yield f"no energy: {report['why_no_energy']}"
    elif energy["how"] == "modelled" and taken["how"] == "measured":
        yield "energy: a target's modelled power over this machine's time, which says something on that target alone"
    for gap in energy["gaps"] if energy else ():
        yield f"energy: no reading for {gap['seconds']:.3f} s, bridged by a straight line: {gap['why']}"
    if "modelled" in (taken["how"], (energy or {}).get("how")):
        modelled = [name for name, part in (("time", taken), ("energy", energy)) if part and part["how"] == "modelled"]
        yield f"modelled, not measured: {' and '.join(modelled)}"
    if report["score"] is None:
        yield f"no score: {report['why_no_score']}"


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in ("W", "J") else "left", overflow="fold")
    return table


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (power, lpcv):
        app.command()(verb)
