"""eval: AP of anything that gives detections, on a labelled split, through the engine that also serves images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.recipe import DataSettings
from lowwatt.verbs.detect import choose_backend

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData
    from lowwatt.evaluate.coco import Ap
    from lowwatt.runtime import Engine
    from lowwatt.types import Detections

CONF, IOU, MAX_DET = 0.01, 0.65, 300
"""Settings of every accuracy in this project: the winner's (docs/training-recipe.md 4)."""


def measure(engine: Engine, data: CocoData, progress: Any = None) -> tuple[Ap, list[tuple[int, Detections]]]:
    """AP and detections by image id; an unreadable image counts as one without detections."""
    from lowwatt.evaluate.coco import coco_ap

    results: list[tuple[int, Detections]] = []
    if progress is not None:
        progress.start(len(data))
    for image, result in zip(data.images, engine.stream([str(i.path) for i in data.images]), strict=True):
        results.append((image.id, result.detections))
        if progress is not None:
            progress.update(len(results))
    if progress is not None:
        progress.finish()
    return coco_ap(data, results), results


def evaluate_file(
    file: Path, root: str, annotations: str, backend: str, limit: int, progress: Any = None
) -> dict[str, Any]:
    """AP of a file on a data set, as a json-able table."""
    from lowwatt.loading import load_graph
    from lowwatt.runtime import Engine
    from lowwatt.verbs.data import open_split

    graph = load_graph(file)
    data = open_split(DataSettings(root=root, val=annotations), "val")
    if limit:
        data = data.first(limit)
    engine = Engine(graph, choose_backend(backend, graph.is_quantized), conf=CONF, iou=IOU, max_det=MAX_DET)
    ap, _ = measure(engine, data, progress)
    return {**dataclasses.asdict(ap), "images": len(data)}
