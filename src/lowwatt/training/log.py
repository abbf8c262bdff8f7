"""What a run tells while it goes: progress for people, log.csv for plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lowwatt.errors import ToolError
from lowwatt.files import write_text

_BEFORE = ("epoch", "step", "lr", "loss")
_BEHIND = ("images_per_s", "waited", "seconds", "epochs_planned")


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
            scored = "".join(f"  {name} {row[name]:.4f}" for name in ("ap", "ap50", "top1", "miou") if name in row)
            print(
                f"epoch {row['epoch']:>3}/{info['epochs']}  loss {row['loss']:.3f}  lr {row['lr']:.5f}"
                f"  {row['images_per_s']:.1f} images/s  {row['seconds']:.0f} s{scored}",
                flush=True,
            )

    def finish(self) -> None:
        """Nothing is left open."""


class Silent:
    """Nobody watches: the processes beside the first."""

    def start(self, total: int) -> None:
        """Nothing."""

    def update(self, done: int, info: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class CsvLog:
    """log.csv of a run: one row an epoch, rewritten whole each time, so that it is never torn.

    Columns are `parts` of the loss and `metrics` of the task between those that every run has; `waited` is the share
    of the time that went by waiting for images.
    """

    def __init__(self, path: Path, parts: Sequence[str], metrics: Sequence[str]) -> None:
        self.path, self.columns = path, (*_BEFORE, *parts, *metrics, *_BEHIND)
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add an epoch and write the file; a column without a value stays empty."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
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
