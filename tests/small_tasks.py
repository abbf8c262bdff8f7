"""Data sets that a tiny network learns in seconds: discs and crosses as classes, and as masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lowwatt.recipe import Recipe

SIDE = 64


class Quiet:
    """Progress that shows nothing, of whatever title."""

    def __init__(self, title: str = "") -> None:
        pass

    def start(self, total: int) -> None:
        pass

    def update(self, done: int, info: Any = None) -> None:
        pass

    def finish(self) -> None:
        pass


CLASSES = ("cross", "disc", "stripes")


def figure(label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright figure on a dark ground, uint8 (64, 64, 3), and where it is, bool (64, 64)."""
    x, y = rng.uniform(24, 40, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    shapes = (
        (abs(rows - y) < 4) & (abs(columns - x) < 18) | (abs(columns - x) < 4) & (abs(rows - y) < 18),
        (rows - y) ** 2 + (columns - x) ** 2 < 16**2,
        ((rows // 4) % 2 == 0) & (abs(columns - x) < 16),
    )
    image = rng.integers(0, 40, (SIDE, SIDE, 3))
    image[shapes[label]] += 180
    return image.astype(np.uint8), shapes[label]


def class_folders(root: Path, train: int = 12, val: int = 6) -> Path:
    """ROOT/{train,val}/CLASS/*.png, so many images a class."""
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        rng = np.random.default_rng(seed)
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(root / split / name / f"{index}.png"), figure(label, rng)[0])
    return root


def mask_folders(root: Path, train: int = 24, val: int = 8) -> Path:
    """ROOT/{train,val}/{images,masks}: the ground is 0, discs are 1, and the upper rows, marked 9, are nothing."""
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        rng = np.random.default_rng(seed)
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, inside = figure(1, rng)
            mask = inside.astype(np.uint8)
            mask[:4] = 9
            cv2.imwrite(str(root / split / "images" / f"{index}.png"), image[:, :48])
            cv2.imwrite(str(root / split / "masks" / f"{index}.png"), mask[:, :48])
    return root


def recipe_of(task: str, root: Path, **train: Any) -> Recipe:
    """A tiny network and a few epochs."""
    base = {"epochs": 6, "batch": 6, "plain_epochs": 1, "warmup_epochs": 0.5, "eval_every": 0, "threads": 1}
    speed = {"optimizer": "adamw", "lr": 0.05, "ema": 0.5, "ema_ramp": 1, "device": "cpu"}
    return Recipe.model_validate(
        {
            "task": task,
            "data": {"root": str(root)},
            "model": {"width": 0.125, "depth": 0.33, "size": 64, "channels": 1},
            "segmentation": {"ignore": 9},
            "train": {**base, **speed, **train},
            "quant": {"images": 12, "max_drop": 1.0},
        }
    )
