"""A peer's trainer beside ours: the same data, size, epochs, batch and network; one thread each, or one GPU in turn.

The peer is not part of this repository. `--peer FOLDER` names a folder with its `train_peer.py` (Megvii YOLOX trained
as shipped, with YOLOX-FPGA's operators and one gray channel), which takes `--data bccd|coco_mini|coco_mini_person
--size --width --epochs --batch --seed --warmup --plain --max-steps --cache --no-eval --device --out DIR`, and writes
DIR/result.json with `images_per_s` of its training loop, `parameters`, and `ap` and `ap50` of the final averaged
weights on val. On a CPU `images_per_s` counts processor seconds, which other work on the machine changes less than
wall time (both sides run in one thread); on a GPU, where both have as many threads or processes beside as they are
shipped with, wall time. `FOLDER/venv/bin/python` runs it where there is one, else this Python.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.models.checkpoint import Model
from lowwatt.recipe import Recipe
from lowwatt.training import train

SHARED = Path(os.environ.get("LOWWATT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DATA = ("bccd", "coco_mini", "coco_mini_person")


WINNER: dict[str, Any] = {
    "optimizer": "sgd", "lr": 0.01, "final_lr": 0.05, "weight_decay": 5e-4, "ema": 0.9998, "ema_ramp": 2000,
    "plain_norms": "live",
}  # fmt: skip
"""Where our defaults differ from the winner's recipe, which is the peer's, too."""


@dataclass(frozen=True)
class Task:
    """What both train: the winner's recipe (training augmentation, SGD, EMA) cut to `epochs`."""

    data: str
    size: int
    width: float
    epochs: int
    batch: int
    warmup: int
    plain: int
    device: str = "cpu"

    def recipe(self, seed: int, changes: dict[str, Any] | None = None, default: bool = False) -> Recipe:
        """Ours: the winner's values, as the peer's are, or our own `default`; `changes` are other `train` settings."""
        root = SHARED / "data" / self.data.removesuffix("_person")
        if not root.is_dir():
            raise ToolError("the data set is not here", where=str(root), hint="LOWWATT_SHARED names its folder")
        classes = ["person"] if self.data.endswith("_person") else None
        settings = {
            **({} if default else WINNER),
            "epochs": self.epochs, "batch": self.batch, "warmup_epochs": self.warmup, "plain_epochs": self.plain,
            "eval_every": 0, "threads": 1, "device": self.device, "seed": seed, **(changes or {}),
        }  # fmt: skip
        return Recipe.model_validate(
            {
                "data": {"root": str(root), "classes": classes},
                "model": {"width": self.width, "size": self.size},
                "train": settings,
            }
        )


def arguments(doc: str, **defaults: Any) -> tuple[argparse.Namespace, Task]:
    """The command line that both benchmarks share, and the task it describes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder of the peer's train_peer.py")
    parser.add_argument("--data", choices=DATA, default="bccd")
    for name, kind in (
        ("size", int),
        ("width", float),
        ("epochs", int),
        ("batch", int),
        ("warmup", int),
        ("plain", int),
    ):
        parser.add_argument(f"--{name}", type=kind, default=defaults[name])
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="our train.KEY, unlike the peer"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--default", action="store_true", help="ours with our own default recipe, not the winner's")
    parser.add_argument("--seeds", type=int, nargs="+", default=defaults.get("seeds", [0]))
    a = parser.parse_args()
    return a, Task(a.data, a.size, a.width, a.epochs, a.batch, a.warmup, a.plain, a.device)


def changes(pairs: list[str]) -> dict[str, Any]:
    """`--set` as settings: values are read as JSON where they are, else as text."""
    found: dict[str, Any] = {}
    for key, _, value in (pair.partition("=") for pair in pairs):
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def train_peer(folder: Path, task: Task, seed: int, *extra: str) -> dict[str, Any]:
    """The peer's result.json."""
    script, python = folder.resolve() / "train_peer.py", folder.resolve() / "venv" / "bin" / "python"
    if not script.is_file():
        raise ToolError("the peer is not here", where=str(script), hint="benchmarks/yolox_peer.py says what it must be")
    with tempfile.TemporaryDirectory() as out:
        options = {
            "data": task.data, "size": task.size, "width": task.width, "epochs": task.epochs, "batch": task.batch,
            "warmup": task.warmup, "plain": task.plain, "seed": seed, "device": task.device, "out": out,
        }  # fmt: skip
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command = [str(python if python.is_file() else sys.executable), str(script), *words, *extra]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOWWATT_SHARED": str(SHARED.resolve())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError("the peer's training failed", where=str(script), why=done.stderr.strip()[-500:])
        result: dict[str, Any] = json.loads((Path(out) / "result.json").read_text())
    return result


@dataclass
class Clock:
    """Progress of a run as seconds by step, of the processor or by the `clock` that is given."""

    clock: Callable[[], float] = time.process_time
    seconds: dict[int, float] = field(default_factory=dict)

    def start(self, total: int) -> None:
        """Nothing has been done."""

    def update(self, done: int, info: Mapping[str, Any]) -> None:
        """Note when a step ended; what comes after an epoch's last step is not training."""
        self.seconds.setdefault(done, self.clock())

    def finish(self) -> None:
        """Nothing is left open."""

    def images_per_s(self, batch: int, first: int) -> float:
        """Speed from step `first` on."""
        begun = max(step for step in self.seconds if step <= first)
        last = max(self.seconds)
        return (last - begun) * batch / (self.seconds[last] - self.seconds[begun])


def train_ours(task: Task, seed: int, settings: dict[str, Any], default: bool = False) -> tuple[Model, float]:
    """Our model, and images a second after the first epoch, in which images are decoded; a processor's on a CPU."""
    clock = Clock(time.process_time if task.device == "cpu" else time.perf_counter)
    with tempfile.TemporaryDirectory() as out:
        model = train(task.recipe(seed, settings, default), out, progress=clock)
    return model, clock.images_per_s(task.batch, max(clock.seconds) // task.epochs)


def told(main: Callable[[], int]) -> int:
    """Run a benchmark; a ToolError is said in its own words."""
    try:
        return main()
    except ToolError as error:
        print(error, file=sys.stderr)
        return 2
