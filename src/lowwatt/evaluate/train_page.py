"""A training run as one HTML page, written anew after every evaluation: curves, what was found, what it ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lowwatt import files
from lowwatt.evaluate import figures
from lowwatt.evaluate.evidence import Confusion, Curve, Evidence
from lowwatt.evaluate.template import fill

MOST_CLASSES = 24
"""Classes of a confusion matrix that is shown; beyond them those with most boxes."""


@dataclass(frozen=True, slots=True)
class TrainRecord:
    """A run so far. `rows` are the log's, one an epoch; `parts` of the loss and `metrics` are columns of them, and the
    first metric decides. `environment` says what ran where.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    parts: Sequence[str]
    metrics: Sequence[str]
    epochs: int
    recipe: str
    environment: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The row of the best epoch so far, the last of equals; None before the first evaluation."""
        scored = [row for row in self.rows if self.metrics[0] in row]
        return max(scored, key=lambda row: (row[self.metrics[0]], row["epoch"]), default=None)


def write_page(record: TrainRecord, path: str | Path) -> None:
    """Write the page, self-contained."""
    files.write_text(path, render(record))


def render(record: TrainRecord) -> str:
    """The page as text; the same for the same record."""
    return fill(
        "train_template.html.j2",
        record=record,
        best=record.best,
        last=record.rows[-1] if record.rows else None,
        metric_charts=[_chart(record, name, 0) for name in record.metrics],
        loss_charts=[_chart(record, name, 1) for name in ("loss", *record.parts)],
        other_charts=[_chart(record, name, 5) for name in ("lr", "images_per_s", "waited")],
        curves=[(curve.name, _curve(curve)) for curve in record.evidence.curves],
        matrix=_matrix(record.evidence.confusion),
    )


def _chart(record: TrainRecord, name: str, colour: int) -> tuple[str, Markup]:
    """Title and chart of a column; no chart below two epochs that have it, or where it is zero throughout."""
    points = [(float(row["epoch"]), float(row[name])) for row in record.rows if isinstance(row.get(name), (int, float))]
    if len(points) < 2 or not any(value for _, value in points):
        return name, Markup("")
    titles = [f"epoch {epoch:g}: {name} {value:.4g}" for epoch, value in points]
    ends = (f"epoch {points[0][0]:g}", f"{points[-1][0]:g}")
    return name, figures.line(points, titles, colour, f"{name} by epoch", ends)


def _curve(curve: Curve) -> Markup:
    titles = [f"{x:.2f}: {y:.3f}" for x, y in curve.points]
    return figures.line(curve.points, titles, 0, curve.name, ("0", "1"))


def _matrix(confusion: Confusion | None) -> dict[str, Any] | None:
    """Names, and rows of (count, share of its row) of the classes with most boxes; None where there is nothing."""
    if confusion is None or not confusion.counts.any():
        return None
    names, counts = confusion.names, confusion.counts
    order = sorted(range(len(names)), key=lambda i: -int(counts[i].sum()))[:MOST_CLASSES]
    kept = sorted(order)
    totals = counts.sum(1)
    rows = [
        (names[i], [(int(counts[i, j]), counts[i, j] / max(int(totals[i]), 1), i == j) for j in kept]) for i in kept
    ]
    return {"names": [names[i] for i in kept], "rows": rows, "left_out": len(names) - len(kept)}
