"""What a run tells while it goes: progress for people, log.csv for plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lowwatt.errors import ToolError
from lowwatt.files import write_text

COLUMNS = (
    "epoch", "step", "lr", "loss", "iou", "cls", "obj", "l1", "ap", "ap50", "images_per_s", "seconds", "epochs_planned",
)  # fmt: skip


class Progress(Protocol):
    """Somebody who watches: `start` once, `update` after every step and epoch, `finish` once, also after an error."""

    def start(self, total: int) -> None:
        """A run of `total` steps begins."""

    def update(self, done: int, info: Mapping[str, Any]) -> None:
        """`done` steps are over. `info` has epoch, epochs, total, loss, lr; after an epoch also its row of log.csv."""

    def finish(self) -> None:
        """The run is over."""


class Lines:
    """Progress as one plain line an epoch."""

    def start(self, total: int) -> None:
        """Nothing to show yet."""

    def update(self, done: int, info: Mapping[str, Any]) -> None:
        """Print the row of an epoch that ended."""
        row = info.get("row")
        if row:
            scored = f"  AP {row['ap']:.4f}  AP50 {row['ap50']:.4f}" if row["ap"] != "" else ""
            print(
                f"epoch {row['epoch']:>3}/{info['epochs']}  loss {row['loss']:.3f}  lr {row['lr']:.5f}"
                f"  {row['images_per_s']:.1f} images/s  {row['seconds']:.0f} s{scored}",
                flush=True,
            )

    def finish(self) -> None:
        """Nothing is left open."""


class CsvLog:
    """log.csv: one row an epoch, rewritten whole each time, so that it is never torn."""

    def __init__(self, path: Path, rows: list[dict[str, Any]] | None = None) -> None:
        self.path, self.rows = path, rows or []

    def add(self, row: dict[str, Any]) -> None:
        """Add an epoch and write the file."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in self.rows)
        write_text(self.path, text.getvalue())


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_log(path: str | Path) -> list[dict[str, float | None]]:
    """Rows of a log.csv; None where an epoch was not evaluated."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise ToolError("cannot read the training log", where=str(path), why=str(error)) from None
