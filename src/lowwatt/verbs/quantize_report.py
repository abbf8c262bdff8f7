"""quantize --report: what the quantizer found as the record of its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lowwatt.evaluate.quant_page import Layer, QuantRecord, Stage, Step, TensorRow
from lowwatt.types import QuantParams

if TYPE_CHECKING:
    from lowwatt.quant import QuantReport
    from lowwatt.quant.effort import StepNote
    from lowwatt.quant.sensitivity import LayerError
    from lowwatt.recipe import QuantSettings

RUNS_ON = {
    "FP32": "the float network on onnxruntime",
    "fake-quant": "rounded values in float, on torch",
    "integer": "the integers on the compiled core, equal to the integer reference",
    "onnxruntime": "the quantized network on onnxruntime, graph optimisation off",
}
"""What computes each stage (`verbs.quantize.on_stage`)."""

_DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def record_of(title: str, settings: QuantSettings, report: QuantReport, result: dict[str, Any]) -> QuantRecord:
    """The record of a finished quantization; `result` is what `quantize_file` gives."""
    from lowwatt.quant.effort import JUDGED

    scheme = report.plan.scheme
    return QuantRecord(
        title=f"{title} on {scheme.name}",
        scheme=scheme.name,
        effort=settings.effort,
        images=report.images,
        bits=f"W{scheme.weights.bits}A{scheme.activations.bits}",
        formats=f"weights {scheme.weights}; activations {scheme.activations}",
        calibration=settings.calibration or scheme.calibration,
        measure=result["measure"],
        stages=_stages(result["accuracy"], result["scored"]),
        max_drop=settings.max_drop,
        verdict=result["verdict"],
        steps=_steps(report.notes),
        judged=min(JUDGED, report.images),
        warnings=list(report.warnings),
        layers=_layers(result["layers"]),
        analysed=result["analysed"],
        tensors=[*_on_integers(report), *_in_float(report)],
    )


def _stages(accuracy: dict[str, float], images: int) -> list[Stage]:
    return [Stage(name, value, f"measured on {images} images: {RUNS_ON[name]}") for name, value in accuracy.items()]


def _steps(notes: Sequence[StepNote]) -> list[Step]:
    return [Step(note.name.replace("_", " "), note.seconds, note.snr_db, note.kept) for note in notes]


def _layers(rows: Sequence[LayerError]) -> list[Layer]:
    return [Layer(r.node, r.op, r.bits, dict(r.alone), r.accumulated, r.cosine, r.gain) for r in rows]


def _on_integers(report: QuantReport) -> Iterator[TensorRow]:
    for slot in report.plan.slots.values():
        quant = report.params.get(slot.name)
        shared = f"; scale shared with {slot.group}" if slot.group != slot.name else ""
        yield TensorRow(
            slot.name, slot.kind, str(slot.format), "" if quant is None else step_text(quant), slot.rule + shared
        )


def _in_float(report: QuantReport) -> Iterator[TensorRow]:
    """Activations that the plan leaves in float, and biases of layers on integers where the scheme has none."""
    plan = report.plan
    for name, why in plan.floats.items():
        yield TensorRow(name, "activations", "float", "", why)
    for node in report.floating.nodes:
        for name in node.inputs[2:] if plan.scheme.bias is None and node.inputs[1:2] else ():
            if node.inputs[1] in plan.slots and name not in plan.slots:
                yield TensorRow(name, "bias", "float", "", f"biases stay in float on {plan.scheme.name}")


def step_text(quant: QuantParams) -> str:
    """The size of an integer's step, and its zero point.

    >>> step_text(QuantParams(2.0**-5)), step_text(QuantParams(0.0123, 3)), step_text(QuantParams((0.5, 0.25), axis=0))
    ('2⁻⁵', '0.0123, zero point 3', '0.25…0.5, 2 scales')
    """
    if isinstance(quant.scale, tuple):
        zeros = ", a zero point each" if quant.zero_points else ""
        return f"{min(quant.scale):.3g}…{max(quant.scale):.3g}, {len(quant.scale)} scales{zeros}"
    if quant.is_power_of_two and not quant.zero_point:
        return f"2{str(-quant.fix_point).translate(_DIGITS)}"
    zero = f", zero point {quant.zero_point}" if quant.zero_point else ""
    return f"{quant.scale:.3g}{zero}"
