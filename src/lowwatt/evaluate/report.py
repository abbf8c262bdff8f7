"""Report: what one run of the road found, as typed rows; JSON on disk, a page to look at, a terminal table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lowwatt import files
from lowwatt.errors import ToolError

if TYPE_CHECKING:
    from rich.table import Table

    from lowwatt.evaluate.comparison import Comparison

FORMAT = 1
Provenance = Literal["measured", "simulated", "modelled"]
Better = Literal["higher", "lower", ""]
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64")
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, Real) and not math.isfinite(value) else value


def _known_image(data: bytes) -> bytes:
    if not data.startswith(tuple(_MAGIC)):
        raise ValueError("a picture must be PNG or JPEG")
    return data


Maybe = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or None where there is none: NaN and infinity (an exact layer's SNR, say) are taken as None."""


@dataclass(config=_CONFIG, frozen=True, slots=True)
class StageAccuracy:
    """Accuracy (0…1) of one stage of the road; `source` says on what and how it was measured.

    `ap` and `ap50` are COCO's AP50:95 and AP50, or what else the report's `measures` names.
    """

    stage: str
    ap: Maybe
    ap50: Maybe
    images: int
    source: str


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Figure:
    """One number of the summary and where it comes from.

    `unit` is shown as it is; "B" is shown in kB or MB. `better` tells a comparison which way is an improvement.
    """

    name: str
    value: Maybe
    unit: str
    provenance: Provenance
    note: str = ""
    better: Better = ""


@dataclass(config=_CONFIG, frozen=True, slots=True)
class LayerRow:
    """One layer as the program runs it: work, cycles by engine, bytes moved, ms, array use (0…1), SNR in dB.

    `utilisation` is the array's use over `ms`, `array_use` that over its own cycles; `why` says what keeps them low.
    `waits`: shares of `ms` in which the array stands still, by whom it waits for; `image_banks`, `weight_banks`: share
    of the banks' words that the layer touches.
    """

    name: str
    op: str
    where: str
    macs: int
    cycles: dict[str, float]
    load_bytes: int
    save_bytes: int
    ms: float
    utilisation: float
    bound_by: str
    snr_db: Maybe = None
    origin: str = ""
    array_use: Maybe = None
    why: str = ""
    waits: dict[str, float] = Field(default_factory=dict)
    image_banks: Maybe = None
    weight_banks: Maybe = None


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Machine:
    """What bounds the accelerator: 1e9 multiply-accumulates and 1e9 bytes loaded a second at most.

    `busy`: for each engine the share of each of equal spans of `ms` in which it works.
    """

    peak_gmacs: float
    load_gb_s: float
    clock_mhz: float
    ms: float
    busy: dict[str, list[float]]


@dataclass(config=_CONFIG, frozen=True, slots=True)
class OffAccelerator:
    """An operator that leaves the accelerator, why, and what to change."""

    name: str
    op: str
    why: str
    remedy: str


@dataclass(config=_CONFIG, frozen=True, slots=True)
class EpochRow:
    """Training after one epoch; `ap`, the first of the report's `measures`, where it was evaluated."""

    epoch: int
    loss: Maybe
    ap: Maybe = None


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Picture:
    """An encoded PNG or JPEG, boxes already drawn."""

    caption: str
    data: Annotated[bytes, AfterValidator(_known_image)]

    @property
    def mime(self) -> str:
        """Media type, from the first bytes."""
        return next(mime for magic, mime in _MAGIC.items() if self.data.startswith(magic))


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Report:
    """Everything one run of the road found.

    `stages` are in road order: the first is the reference, the last is what runs. `when` is given by the
    caller, so that the same run gives the same bytes. `status` colours the headline. `measures` names what the stages'
    two accuracies are: AP and AP50, top-1 and top-5, mIoU and pixel accuracy.

    >>> report = Report(title="demo", stages=[StageAccuracy("FP32", 0.5, 0.8, 150, "measured on val")])
    >>> Report.from_json(report.to_json()) == report
    True
    """

    title: str
    when: str = ""
    headline: str = ""
    status: Literal["good", "warning", "bad", ""] = ""
    versions: dict[str, str] = Field(default_factory=dict)
    recipe: str = ""
    stages: list[StageAccuracy] = Field(default_factory=list)
    measures: tuple[str, str] = ("AP", "AP50")
    figures: list[Figure] = Field(default_factory=list)
    layers: list[LayerRow] = Field(default_factory=list)
    verdicts: list[OffAccelerator] = Field(default_factory=list)
    training: list[EpochRow] = Field(default_factory=list)
    images: list[Picture] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    machine: Machine | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        """The report as JSON, the same bytes for the same content; pictures are base64."""
        return TypeAdapter(Report).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "report.json") -> Report:
        """Read what `to_json` wrote. Raises ToolError for anything else; `where` names the file in it."""
        try:
            report = TypeAdapter(Report).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ToolError(
                "cannot read the report",
                where=where,
                why=f"{place}: {first['msg']}" if place else first["msg"],
                hint="the file is damaged or of another kind; `lowwatt produce` writes a report.json",
            ) from None
        if report.format > FORMAT:
            raise ToolError(
                "cannot read the report", where=where, why="a newer lowwatt wrote it", hint="update lowwatt"
            )
        return report

    def save(self, path: str | Path) -> None:
        """Write `to_json` to `path`."""
        files.write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a `report.json`. Raises ToolError for a missing or damaged file."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ToolError("cannot read the report", where=str(path), why=error.strerror or str(error)) from None
        return cls.from_json(content, str(path))

    @property
    def drop(self) -> float | None:
        """Accuracy lost from the first stage to the last (positive: lost), None where it is not defined."""
        if len(self.stages) < 2 or self.stages[0].ap is None or self.stages[-1].ap is None:
            return None
        return self.stages[0].ap - self.stages[-1].ap


def write_html(report: Report, path: str | Path, against: Report | None = None) -> None:
    """Write one self-contained page; `against`, an earlier report, adds a section that compares the two."""
    from lowwatt.evaluate.page import render

    files.write_text(path, render(report, against))


def compare(before: Report, after: Report) -> Comparison:
    """What changed between two reports: totals, and layers of the same name."""
    from lowwatt.evaluate.comparison import compare_reports

    return compare_reports(before, after)


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, to the digits that mean something.

    >>> quantity(24.7071, "ms"), quantity(6_052_133, "B"), quantity(20288, "images"), quantity(None, "J")
    ('24.71 ms', '6.05 MB', '20,288 images', '–')
    """
    if value is None:
        return "–"
    if unit == "B":
        return _bytes(value)
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{digits} {unit}".rstrip()


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def score_text(ap: float | None) -> str:
    """AP as the field prints it: three decimals."""
    return "–" if ap is None else f"{ap:.3f}"


def summary_table(report: Report) -> Table:
    """The one table at the end of a run: accuracy by stage, then the figures, each with where it comes from."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(report.title), title_justify="left")
    for heading, justify in (("", "left"), ("value", "right"), ("where it comes from", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for name, value, source in _summary_rows(report):
        table.add_row(Text(name), Text(value, style="bold"), Text(source, style="dim"))
    return table


def _summary_rows(report: Report) -> Sequence[tuple[str, str, str]]:
    name = report.measures[0]
    stages = [(f"{name} {stage.stage}", _ap_change(stage, report.stages[0]), stage.source) for stage in report.stages]
    figures = [
        (
            figure.name,
            quantity(figure.value, figure.unit),
            ", ".join(filter(None, (figure.provenance, figure.note))),
        )
        for figure in report.figures
    ]
    return stages + figures


def _ap_change(stage: StageAccuracy, reference: StageAccuracy) -> str:
    if stage is reference or stage.ap is None or reference.ap is None:
        return score_text(stage.ap)
    return f"{score_text(stage.ap)} ({stage.ap - reference.ap:+.3f})"
