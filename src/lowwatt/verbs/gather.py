"""What a run found, as the typed rows of its report."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt import __version__
from lowwatt.compiler.rules import group
from lowwatt.evaluate.report import Figure, LayerRow, Machine, OffAccelerator, Picture, Report, StageAccuracy

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.quant import QuantReport
    from lowwatt.verbs.produce import Road

PICTURES = 6
TIMELINE_BINS = 1000
_SOURCES = {
    "FP32": "float graph on onnxruntime",
    "fake-quant": "fake-quantized graph on torch",
    "integer": "INT8 integers on the compiled core, equal to the integer reference",
}


def gather(road: Road, quantization: QuantReport, program: Program) -> Report:
    """The report of a finished run."""
    return Report(
        title=f"{road.recipe.name} on {program.target.name}",
        headline=_headline(road, program),
        status="bad" if road.verdict else "warning" if road.warning else "good",
        versions=_versions(),
        recipe=road.recipe.to_yaml(),
        stages=_stages(road),
        figures=_figures(road, program),
        layers=_layers(road, quantization, program),
        verdicts=[
            OffAccelerator(", ".join(nodes), v.op, "; ".join(v.reasons), v.remedy)
            for v, nodes in group(program.verdicts)
        ],
        training=road.training_rows(),
        images=_pictures(road),
        notes=[line for export in road.exports.values() for line in export["proof"]],
        machine=_machine(program),
    )


def _headline(road: Road, program: Program) -> str:
    integer = road.accuracy["integer"].ap
    text = f"INT8 AP {integer:.3f}, {program.latency_ms:.1f} ms a frame on {program.target.name} (modelled)"
    return ". ".join(filter(None, (text, road.verdict, road.warning)))


def _stages(road: Road) -> list[StageAccuracy]:
    count = len(road.validation_data)
    return [
        StageAccuracy(stage, ap.ap, ap.ap50, count, f"measured on val, {count} images, {_SOURCES[stage]}")
        for stage, ap in road.accuracy.items()
    ]


def _figures(road: Road, program: Program) -> list[Figure]:
    from lowwatt.evaluate import score
    from lowwatt.evaluate.lpcv import energy_model

    energy = energy_model(program.latency_ms, target=program.target)
    value = score(ap=road.accuracy["integer"].ap, energy_j=energy.joules, fps=program.fps)
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
        (
            "LPCV score",
            value,
            "",
            "modelled",
            "measured integer AP of this data set (the contest's is COCO), modelled fps and energy",
            "higher",
        ),
        ("model.safetensors", road.model_path.stat().st_size, "B", "measured", "fp16 weights", "lower"),
    ]
    rows += [
        (Path(export["file"]).name, export["bytes"], "B", "measured", "file on disk", "lower")
        for export in road.exports.values()
    ]
    return [*(Figure(*row) for row in rows), *_assumed(program)]


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


def _pictures(road: Road) -> list[Picture]:
    """Validation images with the integer network's boxes, those with most objects among the first ones."""
    import cv2

    from lowwatt.letterbox import read_image
    from lowwatt.runtime.draw import draw

    data = road.validation_data
    chosen = sorted(range(min(len(data), 60)), key=lambda i: -len(data.boxes[i]))[:PICTURES]
    pictures = []
    for index in chosen:
        found = road.detections[index][1]
        strong = found[found.score >= 0.25]
        image = draw(read_image(data.images[index].path, 3), strong)
        done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
        if done:
            pictures.append(Picture(f"{data.images[index].path.name}: {len(strong)} boxes", content.tobytes()))
    return pictures


def _versions() -> dict[str, str]:
    names = ("torch", "onnx", "onnxruntime", "numpy", "hotcoco")
    found = {name: metadata.version(name) for name in names}
    return {
        "lowwatt": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **found,
    }
