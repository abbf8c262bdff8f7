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

from lowwatt.errors import ToolError

messages = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)

PLAIN_SECONDS = 10.0
"""Seconds between two progress lines where stderr is no terminal."""


class StageProgress:
    """Progress of one stage: a bar with the time left on a terminal, now and then a plain line elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._began = time.monotonic()
        self._printed = self._began
        self._total = 0
        self._bar: Progress | None = None
        self._info = ""

    def start(self, total: int) -> None:
        """Begin, or begin again with another total."""
        self._total = total
        if not messages.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<10}"),
                BarColumn(24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[info]}"),
                console=messages,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=total, info="")
        else:
            self._bar.update(self._task, total=total)

    def update(self, done: int, info: Mapping[str, Any] | None = None) -> None:
        """`done` of the total; `info` is shown beside the bar."""
        if info:
            self._info = "  ".join(f"{key} {_short(value)}" for key, value in info.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, info=self._info)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            elapsed = self._printed - self._began
            left = elapsed / done * (self._total - done) if done else 0.0
            messages.print(f"  {self.title}: {done}/{self._total}, {left:.0f} s left  {self._info}")

    def finish(self) -> None:
        """End; the bar goes away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_json(value: Any) -> None:
    """Data for scripts, on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def print_error(error: ToolError) -> None:
    """The three parts of an error and its hint, on stderr."""
    messages.print("[bold red]error:[/] ", end="")
    messages.print(error.what, markup=False, style="bold")
    for title, text in (("where", error.where), ("why", error.why)):
        if text:
            messages.print(f"  [dim]{title}:[/]{' ' * (6 - len(title))}", end="")
            messages.print(text, markup=False)
    if error.hint:
        messages.print()
        messages.print("[bold cyan]hint:[/] ", end="")
        messages.print(error.hint, markup=False)
