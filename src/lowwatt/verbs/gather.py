"""What a run found, as the typed rows of its report."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt import __version__
from lowwatt.compiler.rules import group
from lowwatt.evaluate.report import Figure, LayerRow, Machine, OffAccelerator, Report, StageAccuracy
from lowwatt.verbs.pictures import pictures

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.quant import QuantReport
    from lowwatt.verbs.produce import Road

TIMELINE_BINS = 1000
_BEHIND_ENERGY = 5
_SOURCES = {
    "FP32": "float graph on onnxruntime",
    "fake-quant": "fake-quantized graph on torch",
    "integer": "INT8 integers on the compiled core, equal to the integer reference",
}


def gather(road: Road, quantization: QuantReport, program: Program) -> Report:
    """The report of a finished run."""
    yardstick = road.yardstick(quantization.quantized)
    return Report(
        title=f"{road.recipe.name} on {program.target.name}",
        headline=_headline(road, yardstick.name, program),
        status="bad" if road.verdict else "warning" if road.warning else "good",
        versions=_versions(),
        recipe=road.recipe.to_yaml(),
        stages=_stages(road),
        measures=(yardstick.name, yardstick.second),
        figures=_figures(road, program),
        layers=_layers(road, quantization, program),
        verdicts=[
            OffAccelerator(", ".join(nodes), v.op, "; ".join(v.reasons), v.remedy)
            for v, nodes in group(program.verdicts)
        ],
        training=road.training_rows(),
        images=list(pictures(road, quantization.quantized)),
        notes=[line for export in road.exports.values() for line in export["proof"]],
        machine=_machine(program),
    )


def _headline(road: Road, measure: str, program: Program) -> str:
    integer = road.accuracy["integer"].value
    text = f"INT8 {measure} {integer:.3f}, {program.latency_ms:.1f} ms a frame on {program.target.name} (modelled)"
    return ". ".join(filter(None, (text, road.verdict, road.warning)))


def _stages(road: Road) -> list[StageAccuracy]:
    count = len(road.validation_data)
    return [
        StageAccuracy(stage, score.value, score.second, count, f"measured on val, {count} images, {_SOURCES[stage]}")
        for stage, score in road.accuracy.items()
    ]


def _figures(road: Road, program: Program) -> list[Figure]:
    from lowwatt.evaluate.lpcv import energy_model

    energy = energy_model(program.latency_ms, target=program.target)
    note = program.target.provenance
    rows: list[tuple[str, float, str, Any, str, Any]] = [
        ("latency", program.latency_ms, "ms", "modelled", f"schedule {program.schedule}; {note}", "lower"),
        ("DPU", program.dpu_ms, "ms", "modelled", "part of the latency", "lower"),
        (
            "host",
            program.host_ms,
            "ms",
            "modelled",
            "part of the latency: output elements and a constant",
            "lower",
        ),
        ("frames a second", program.fps, "fps", "modelled", "1000 / latency", "higher"),
        ("energy", energy.joules, "J", "modelled", energy.assumptions.removeprefix("modelled: "), "lower"),
        ("model.safetensors", road.model_path.stat().st_size, "B", "measured", "fp16 weights", "lower"),
    ]
    rows += [
        (Path(export["file"]).name, export["bytes"], "B", "measured", "file on disk", "lower")
        for export in road.exports.values()
    ]
    figures = [Figure(*row) for row in rows]
    if road.recipe.task == "detection":
        figures.insert(_BEHIND_ENERGY, _lpcv_score(road, program, energy.joules))
    return [*figures, *_assumed(program)]


def _lpcv_score(road: Road, program: Program, joules: float) -> Figure:
    """The contest's score, which is one of detectors."""
    from lowwatt.evaluate import score

    value = score(ap=road.accuracy["integer"].value, energy_j=joules, fps=program.fps)
    note = "measured integer AP of this data set (the contest's is COCO), modelled fps and energy"
    return Figure("LPCV score", value, "", "modelled", note, "higher")


def _assumed(program: Program) -> list[Figure]:
    """Energy by what the target's user assumes an operation to cost."""
    from lowwatt.evaluate.energy import assumed_energy

    found = assumed_energy(program)
    if found is None:
        return []
    return [Figure("energy a frame, assumed", found.mj, "mJ", "modelled", found.assumptions, "lower")]


def _machine(program: Program) -> Machine:
    from lowwatt.compiler.trace import busy_shares

    target = program.target
    peak = target.array.macs_per_cycle / target.cycle_ns
    return Machine(peak, target.costs.load_gb_s, target.clock_mhz, program.dpu_ms, busy_shares(program, TIMELINE_BINS))


def _layers(road: Road, quantization: QuantReport, program: Program) -> list[LayerRow]:
    from lowwatt.compiler.details import details
    from lowwatt.ir import meta
    from lowwatt.quant.analysis import accumulated_snr
    from lowwatt.verbs.data import calibration_batches

    batch = next(calibration_batches(road.validation_data, meta.preprocess(quantization.quantized), 2))
    snr = accumulated_snr(quantization.floating, quantization.quantized, batch)
    return [
        LayerRow(
            row.name,
            row.op,
            row.where,
            row.macs,
            dict(row.cycles),
            row.load_bytes,
            row.save_bytes,
            row.ms,
            row.utilisation,
            row.bound_by,
            snr.get(row.name),
            row.origin,
            row.array_use,
            more.why,
            dict(more.waits),
            more.footprint.image_banks if more.footprint else None,
            more.footprint.weight_banks if more.footprint else None,
        )
        for row, more in zip(program.layers, details(program), strict=True)
    ]


def _versions() -> dict[str, str]:
    names = ("torch", "onnx", "onnxruntime", "numpy", "hotcoco")
    found = {name: metadata.version(name) for name in names}
    return {
        "lowwatt": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **found,
    }
