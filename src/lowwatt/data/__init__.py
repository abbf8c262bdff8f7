"""Labelled data: reading, checking, augmenting, loading, and the embedded sample set."""

from __future__ import annotations

from pathlib import Path

from lowwatt.data.coco import CocoData
from lowwatt.data.formats import read_split
from lowwatt.data.sample import SAMPLE, make_sample, sample_folder
from lowwatt.recipe import DataSettings


def open_data(settings: DataSettings, splits: tuple[str, ...] = ("train", "val")) -> list[CocoData]:
    """The splits that a recipe names, in order; the sample set is made on first use.

    Raises ToolError where a file is absent or damaged.
    """
    root = Path(settings.root).expanduser()
    if settings.root == SAMPLE:
        counts = (settings.sample_train, settings.sample_val, settings.sample_size)
        root = make_sample(sample_folder(*counts), *counts)
    return [read_split(root, settings, split) for split in splits]
