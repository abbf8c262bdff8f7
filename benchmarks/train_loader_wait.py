"""Share of its time that the training loop waits for images: blood cells (BCCD), width 0.25, 224 pixels, batch 16.

    python benchmarks/train_loader_wait.py [--data COCO] [--workers 1] [--epochs 3]

One thread of torch on the CPU beside the threads of the loader. Also the loader alone, with and without threads, images
decoded before, and how long the first epoch waits, which decodes them.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

from quant_accuracy import SHARED
from verdict import conclude

from lowwatt.data.coco import CocoData, read_coco
from lowwatt.data.loader import TrainLoader
from lowwatt.models.yolox import preprocess_of
from lowwatt.recipe import ModelSettings, Recipe, TrainSettings
from lowwatt.training import train
from lowwatt.training.log import Silent

BAR = 0.05
MODEL = ModelSettings(width=0.25, size=224)


def settings(workers: int, epochs: int) -> TrainSettings:
    return TrainSettings(
        batch=16,
        epochs=epochs,
        plain_epochs=0,
        workers=workers,
        threads=1,
        device="cpu",
        eval_every=0,
        tensorboard=False,
    )


def alone(data: CocoData, workers: int) -> float:
    """Augmented images a second, decoded before; the best of three epochs."""
    loader = TrainLoader(data, preprocess_of(MODEL), settings(workers, 1))
    list(loader.epoch(0, True))
    speeds = []
    for epoch in range(1, 4):
        began = time.perf_counter()
        images = sum(len(batch.images) for batch in loader.epoch(epoch, True))
        speeds.append(images / (time.perf_counter() - began))
    return max(speeds)


def waits(splits: tuple[CocoData, CocoData], workers: int, epochs: int) -> list[dict[str, float]]:
    """Rows of log.csv."""
    recipe = Recipe(model=MODEL, train=settings(workers, epochs))
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder, data=splits, progress=Silent())
        with (Path(folder) / "log.csv").open() as file:
            names = ("waited", "images_per_s")
            return [{name: float(row[name]) for name in names} for row in csv.DictReader(file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bccd")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    train_split, val = (read_coco(args.data / f"{split}.json", args.data / "images") for split in ("train", "val"))
    for workers in (0, 1, 2):
        print(f"loader alone, {workers} threads: {alone(train_split, workers):.0f} images/s", flush=True)
    rows = waits((train_split, val.first(1)), args.workers, args.epochs)
    for epoch, row in enumerate(rows, 1):
        print(f"epoch {epoch}: waited {100 * row['waited']:.1f} %, {row['images_per_s']:.1f} images/s")
    share = max(row["waited"] for row in rows)
    what = f"share of the loop's time spent waiting, {args.workers} threads, worst of {args.epochs} epochs"
    return conclude(what, f"{100 * share:.1f} %", f"<= {100 * BAR:.0f} %", share <= BAR)


if __name__ == "__main__":
    sys.exit(main())
