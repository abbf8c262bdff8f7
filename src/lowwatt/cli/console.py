"""What the command line prints: messages and progress on stderr, data on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from lowwatt.errors import ToolError

# Text is printed as it is: paths, names and reasons may hold [brackets]. What is coloured says markup=True.
messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
output = Console(highlight=False, soft_wrap=True, markup=False)

PLAIN_SECONDS = 10.0
"""Seconds between two progress lines where stderr is no terminal."""

UNBOUNDED = 1000
"""Columns of a table that no terminal shows."""


class StageProgress:
    """Progress of one stage: a bar with the time left on a terminal, now and then a plain line elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._total = 0
        self._first: int | None = None
        self._bar: Progress | None = None
        self._info = ""

    def start(self, total: int) -> None:
        """Begin."""
        self._total = total
        self._began = self._printed = time.monotonic()
        if messages.is_terminal:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=total, info="")

    def update(self, done: int, info: Mapping[str, Any] | None = None) -> None:
        """`done` of the total (`info["total"]` where that changed); what else `info` has is shown beside the bar."""
        if info:
            self._total = info.get("total", self._total)
            self._info = _beside(info)
        if self._first is None:
            self._first = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total, info=self._info)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            messages.print(f"  {self.title}: {done}/{self._total}, {self._left(done)}  {self._info}")

    def _left(self, done: int) -> str:
        """Time left by the pace since the first update: a resumed run does not begin at 0."""
        fresh = done - (self._first or 0)
        if fresh <= 0:
            return "…"
        return f"{(time.monotonic() - self._began) / fresh * (self._total - done):.0f} s left"

    def finish(self) -> None:
        """End; the bar goes away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar() -> Progress:
    """A line that keeps its numbers whole on a narrow terminal; only the text at its end is cut."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(12),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[info]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=messages,
        transient=True,
        expand=True,
    )


def _beside(info: Mapping[str, Any]) -> str:
    """Numbers and words of `info`; epoch and epochs as one, the total and rows left out."""
    shown = {k: v for k, v in info.items() if k not in ("total", "epochs") and isinstance(v, (int, float, str))}
    if "epochs" in info and "epoch" in shown:
        shown["epoch"] = f"{info['epoch']}/{info['epochs']}"
    return "  ".join(f"{key} {_short(value)}" for key, value in shown.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_json(value: Any) -> None:
    """Data for scripts, on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def table_width() -> int:
    """Columns that a table on stdout may take: the terminal's, or, where a program reads it, as many as it needs."""
    return output.width if output.is_terminal else UNBOUNDED


def print_table(table: Table) -> None:
    """A table on stdout."""
    console = output if output.is_terminal else Console(width=table_width(), highlight=False, markup=False)
    console.print(table, crop=False)


def stage_done(line: str) -> None:
    """A finished stage of the road, on stderr."""
    messages.print("✓ ", style="green", end="")
    messages.print(line)


def print_error(error: ToolError) -> None:
    """The three parts of an error and its hint, on stderr."""
    messages.print("error: ", style="bold red", end="")
    messages.print(error.what, style="bold")
    for title, text in (("where", error.where), ("why", error.why)):
        if text:
            messages.print(f"  {title}:{' ' * (6 - len(title))}", style="dim", end="")
            messages.print(text)
    if error.hint:
        messages.print()
        messages.print("hint: ", style="bold cyan", end="")
        messages.print(error.hint)
