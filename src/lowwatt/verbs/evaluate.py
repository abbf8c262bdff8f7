"""eval: AP of anything that gives detections, on a labelled split, through the engine that also serves images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.recipe import DataSettings
from lowwatt.types import Detections
from lowwatt.verbs.data import open_split
from lowwatt.verbs.detect import choose_backend

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData
    from lowwatt.evaluate.coco import Ap
    from lowwatt.runtime import Engine

CONF, IOU, MAX_DET = 0.01, 0.65, 300
"""Settings of every accuracy in this project: the winner's (docs/training-recipe.md 4)."""


def split_for(labels: Sequence[str], settings: DataSettings) -> CocoData:
    """The val split with the classes that the detector knows, in its order; ToolError where it knows none of them."""
    data = open_split(settings, "val")
    if not labels or tuple(labels) == data.labels:
        return data
    shared = [name for name in labels if name in data.labels]
    if not shared:
        why = f"the detector finds {', '.join(labels[:5])}, …; the data set has {', '.join(data.labels[:5])}, …"
        raise ToolError("the detector knows no class of the data set", where=str(data.source), why=why)
    return open_split(settings.model_copy(update={"classes": shared}), "val")


def relabelled(found: Detections, labels: Sequence[str]) -> Detections:
    """The detections with the data set's label indices; those of classes that it lacks are left out."""
    if not found.names or found.names == tuple(labels):
        return found
    index = {name: label for label, name in enumerate(labels)}
    table = np.array([index.get(name, -1) for name in found.names], np.int64)
    kept = found[table[found.label] >= 0]
    return Detections(kept.xyxy, kept.score, table[kept.label], tuple(labels))


def measure(engine: Engine, data: CocoData, progress: Any = None) -> tuple[Ap, list[tuple[int, Detections]]]:
    """AP and detections by image id; an unreadable image counts as one without detections."""
    from lowwatt.evaluate.coco import coco_ap

    results: list[tuple[int, Detections]] = []
    if progress is not None:
        progress.start(len(data))
    for image, result in zip(data.images, engine.stream([str(i.path) for i in data.images]), strict=True):
        results.append((image.id, relabelled(result.detections, data.labels)))
        if progress is not None:
            progress.update(len(results))
    if progress is not None:
        progress.finish()
    return coco_ap(data, results), results


def evaluate_file(
    file: Path,
    root: str,
    annotations: str,
    backend: str,
    limit: int,
    progress: Any = None,
    *,
    labels: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """AP of a file on a data set, as a json-able table.

    `labels` is a file of class names for a network that states none; `tell` is given what was worked out about one that
    was trained elsewhere.
    """
    from lowwatt.ir import meta
    from lowwatt.loading import load_with_head, read_labels
    from lowwatt.runtime import Engine

    graph, line = load_with_head(file, () if labels is None else read_labels(labels))
    if line:
        tell(line)
    data = split_for(meta.labels(graph), DataSettings(root=root, val=annotations))
    if limit:
        data = data.first(limit)
    engine = Engine(graph, choose_backend(backend, graph.is_quantized), conf=CONF, iou=IOU, max_det=MAX_DET)
    ap, _ = measure(engine, data, progress)
    return {**dataclasses.asdict(ap), "images": len(data)}
