"""A quantization as one HTML page: what it cost, which steps helped, where the error sits, which tensor carries what.

The page looks like the report's (`page_base.html.j2`) and needs no script; with it, tables sort and filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lowwatt import files
from lowwatt.evaluate import figures
from lowwatt.evaluate.template import fill, signed

EXACT_DB = 100.0
"""Where signal to noise is cut off: a signal without error has as much (`quant.analysis.output_snr`)."""

BRANCHES = 4
"""Outputs that have a chart and a column of their own."""

RANKED = 10
_COLOURS = (0, 1, 4, 3)
_ENDS = ("first layer", "last layer")


@dataclass(frozen=True, slots=True)
class Stage:
    """Accuracy (0…1) of one stage and what it was measured on."""

    name: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the quantizer: its cost, the outputs' signal to noise after it; kept, or taken back."""

    name: str
    seconds: float
    snr_db: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """Error of one layer in dB, signal to noise: `alone` by branch at the outputs, `accumulated` at its own output;
    `gain` is what the outputs gain from 16 bits here.
    """

    name: str
    op: str
    bits: int
    alone: dict[str, float]
    accumulated: float
    cosine: float
    gain: float


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor of the plan: its number format and the size of its step, or "float"; the rule behind it."""

    name: str
    kind: str
    format: str
    step: str
    rule: str


@dataclass(frozen=True, slots=True)
class QuantRecord:
    """Everything one quantization found. What is empty has no section on the page.

    `bits` is short (W8A8), `formats` the whole of it. `measure` names what `stages` hold, FP32 first; `verdict` is
    empty where no more than `max_drop` of it is lost.
    `judged` and `analysed` are the images behind the dB of `steps` and `layers`.
    """

    title: str
    scheme: str
    effort: str
    images: int
    bits: str = ""
    formats: str = ""
    calibration: str = ""
    measure: str = "AP"
    stages: list[Stage] = field(default_factory=list)
    max_drop: float = 0.0
    verdict: str = ""
    steps: list[Step] = field(default_factory=list)
    judged: int = 0
    warnings: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    analysed: int = 0
    tensors: list[TensorRow] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Colour of the headline: "good", "bad", or empty where no accuracy was measured."""
        return "" if not self.stages else "bad" if self.verdict else "good"

    @property
    def snr_db(self) -> float | None:
        """Signal to noise of the outputs as they are now: after the last step that was kept."""
        return next((step.snr_db for step in reversed(self.steps) if step.kept), None)


def write_quant_html(record: QuantRecord, path: str | Path) -> None:
    """Write the page as one self-contained file."""
    files.write_text(path, render_quant(record))


def render_quant(record: QuantRecord) -> str:
    """The page as text, the same for the same record; everything in the record is escaped."""
    return fill(
        "quant_template.html.j2",
        record=record,
        headline=headline(record),
        steps=_step_rows(record.steps),
        floats=_floats(record.tensors),
        on_integers=sum(row.format != "float" for row in record.tensors),
        **_layer_view(record.layers),
    )


def headline(record: QuantRecord) -> str:
    """One sentence: accuracy before and after and what that means, else what is known.

    >>> headline(QuantRecord("a", "vitis", "fast", 8, stages=[Stage("FP32", 0.5, ""), Stage("integer", 0.49, "")],
    ...          max_drop=0.05))
    'AP 0.5000 → 0.4900 (−0.0100), within the 0.05 allowed'
    """
    if not record.stages:
        known = "" if record.snr_db is None else f", outputs at {record.snr_db:.1f} dB signal to noise"
        return f"Accuracy was not measured{known}"
    before, after = record.stages[0].value, record.stages[-1].value
    change = f"{record.measure} {before:.4f} → {after:.4f} ({signed(after - before, 4)})"
    return f"{change}: {record.verdict}" if record.verdict else f"{change}, within the {record.max_drop:g} allowed"


def _step_rows(steps: Sequence[Step]) -> list[tuple[Step, float | None]]:
    """Each step with the dB by which it changed the outputs, None for the first."""
    rows: list[tuple[Step, float | None]] = []
    now: float | None = None
    for step in steps:
        rows.append((step, None if now is None else step.snr_db - now))
        now = step.snr_db if step.kept else now
    return rows


def _floats(tensors: Iterable[TensorRow]) -> list[tuple[str, list[str]]]:
    """Tensors that stay in float by reason, the most frequent first."""
    table: dict[str, list[str]] = {}
    for row in tensors:
        if row.format == "float":
            table.setdefault(row.rule, []).append(row.name)
    return sorted(table.items(), key=lambda item: -len(item[1]))


def _layer_view(layers: Sequence[Layer]) -> dict[str, Any]:
    """Charts of the layers, and the layers with their indices, those first from which most is to be gained."""
    branches = list(layers[0].alone)[:BRANCHES] if layers else []
    ranked = sorted(enumerate(layers), key=lambda item: -item[1].gain)
    top = _top(value for layer in layers for value in layer.alone.values())
    return {
        "branches": branches,
        "ranked": [(index, layer) for index, layer in ranked if layer.gain > 0][:RANKED],
        "gain_top": max((_height(layer.gain) for layer in layers), default=0) or 1,
        "alone_top": top,
        "accumulated_top": _top(layer.accumulated for layer in layers),
        "gain_chart": _gain_chart(layers) if layers else Markup(""),
        "alone_charts": [
            (name, _alone_chart(layers, name, colour, top)) for name, colour in zip(branches, _COLOURS, strict=False)
        ],
        "accumulated_chart": _accumulated_chart(layers) if len(layers) > 1 else Markup(""),
    }


def _top(decibels: Iterable[float]) -> float:
    """Top of an axis for all that are not cut off."""
    return figures.nice_ticks(max((value for value in decibels if value < EXACT_DB), default=EXACT_DB))[-1]


def _gain_chart(layers: Sequence[Layer]) -> Markup:
    title = "16 bits here: {} dB"
    bars = _bars(layers, lambda row: (row.gain, 2, title.format(signed(row.gain, 2))))
    return figures.columns(bars, "dB", "decibels gained by 16 bits, by layer", _ENDS, signed=True)


def _alone_chart(layers: Sequence[Layer], branch: str, colour: int, top: float) -> Markup:
    """What is cut off reaches the top, in gray."""

    def bar(row: Layer) -> tuple[float, int, str]:
        value = row.alone[branch]
        return (top, 5, "100 dB or more alone") if value >= EXACT_DB else (value, colour, f"{value:.1f} dB alone")

    return figures.columns(_bars(layers, bar), "dB", f"signal to noise of {branch}, each layer alone", _ENDS, top)


def _height(value: float) -> float:
    """What is no number is drawn as nothing."""
    return value if math.isfinite(value) else 0.0


def _bars(layers: Sequence[Layer], bar: Callable[[Layer], tuple[float, int, str]]) -> list[figures.Column]:
    found = []
    for index, layer in enumerate(layers):
        value, colour, text = bar(layer)
        found.append(figures.Column(_height(value), colour, f"{layer.name} ({layer.op})\n{text}", f"#layer-{index}"))
    return found


def _accumulated_chart(layers: Sequence[Layer]) -> Markup:
    top = _top(layer.accumulated for layer in layers)
    points = [(float(index), min(_height(layer.accumulated), top)) for index, layer in enumerate(layers)]
    titles = [f"{layer.name} ({layer.op})\n{layer.accumulated:.1f} dB accumulated" for layer in layers]
    return figures.line(points, titles, 0, "accumulated signal to noise by layer", _ENDS, "dB")
