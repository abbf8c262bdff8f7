"""What a run leaves to look at: log.csv and log.jsonl, TensorBoard, status.json, environment.json, training.html."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from lowwatt import __version__
from lowwatt.evaluate.train_page import TrainRecord, write_page
from lowwatt.files import write_text
from lowwatt.training.log import CsvLog
from lowwatt.training.processes import Processes
from lowwatt.training.task import Task

STATUS_SECONDS = 2.0
"""Seconds between two writings of status.json."""

STEPS = 10
"""Steps between two points of TensorBoard's curves of loss and rate."""


class Journal:
    """Keeps the files of one run's folder; only the first process has one.

    status.json is for whoever watches from outside: state (running, finished, interrupted, failed), epoch, step, loss,
    best metric, seconds spent and left, and when it was written.
    """

    def __init__(self, out: Path, task: Task, processes: Processes) -> None:
        self.out, self.task = out, task
        self.csv = CsvLog(out / "log.csv", task.parts, task.metrics)
        self.environment = environment(task, processes)
        self._board: Any = None
        self._written = self._began = time.monotonic()
        self._first: int | None = None
        self._status: dict[str, Any] = {"state": "running"}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One an epoch."""
        return self.csv.rows

    @rows.setter
    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.csv.rows = rows

    def begin(self, done: int) -> None:
        """The run starts, or goes on, with `done` steps behind it."""
        write_text(self.out / "recipe.yaml", self.task.recipe.to_yaml())
        write_text(self.out / "environment.json", json.dumps(self.environment, indent=1) + "\n")
        self._board, self._first = _board(self.out / "tensorboard", done, self.task), done
        self._tell(state="running")

    def step(self, done: int, info: Mapping[str, Any]) -> None:
        """A step is over; `info` is what progress is told."""
        if self._board is not None and done % STEPS == 0:
            for name in {"loss", "lr"} & info.keys():
                self._board.add_scalar(f"step/{name}", info[name], done)
        if time.monotonic() - self._written >= STATUS_SECONDS:
            spent = time.monotonic() - self._began
            fresh = done - (self._first or 0)
            left = spent / fresh * (info["total"] - done) if fresh else None
            self._tell(**info, step=done, seconds_left=left)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """An epoch is over."""
        self.csv.add(row)
        write_text(self.out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))
        if self._board is not None:
            for name in ("loss", *self.task.parts, *self.task.metrics, "images_per_s", "waited"):
                if name in row:
                    self._board.add_scalar(f"epoch/{name}", row[name], row["epoch"])
            self._board.flush()
        if self.task.metrics[0] in row:
            self._page(epochs)
        self._tell(**{name: row[name] for name in ("epoch", "step", "loss", *self.task.metrics) if name in row})

    def end(self, error: BaseException | None) -> None:
        """The run is over, well or not."""
        states = {type(None): "finished", KeyboardInterrupt: "interrupted"}
        self._tell(state=states.get(type(error), "failed"), error=str(error) if error else "", seconds_left=0)
        if self._board is not None:
            self._board.close()

    def _page(self, epochs: int) -> None:
        record = TrainRecord(
            title=self.task.recipe.name,
            rows=self.rows,
            parts=self.task.parts,
            metrics=self.task.metrics,
            epochs=epochs,
            recipe=self.task.recipe.to_yaml(),
            environment=self.environment,
            evidence=self.task.evidence(),
        )
        write_page(record, self.out / "training.html")

    def _tell(self, **news: Any) -> None:
        known = {key: value for key, value in news.items() if isinstance(value, (int, float, str))}
        best = max((row[name] for name in self.task.metrics[:1] for row in self.rows if name in row), default=None)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        spent = round(time.monotonic() - self._began, 1)
        self._status |= {**known, "best": best, "seconds": spent, "written": now}
        write_text(self.out / "status.json", json.dumps(self._status, indent=1) + "\n")
        self._written = time.monotonic()


def environment(task: Task, processes: Processes) -> dict[str, str]:
    """What a run's figures depend on beside its recipe."""
    device = str(processes.device)
    if processes.device.type == "cuda":
        device = torch.cuda.get_device_name(processes.device)
    return {
        "command": " ".join(sys.argv),
        "lowwatt": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "processes": str(processes.world),
        "threads": str(torch.get_num_threads()),
        "precision": processes.precision,
        "seed": str(task.recipe.train.seed),
    }


def _board(folder: Path, done: int, task: Task) -> Any:
    """TensorBoard's writer, where the recipe wants one and it is installed; a resumed run's points behind `done` go."""
    if not task.recipe.train.tensorboard or importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=done or None)
