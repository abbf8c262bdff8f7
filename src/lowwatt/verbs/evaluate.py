"""eval: AP of a detector or top-k accuracy of a classifier, through what also serves images."""

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
    from lowwatt.data.folder import ClassData
    from lowwatt.evaluate.coco import Ap
    from lowwatt.evaluate.topk import TopK
    from lowwatt.ir.graph import Graph
    from lowwatt.runtime import Engine
    from lowwatt.runtime.classifier import Classifier

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


def detector(graph: Graph, backend: Any) -> Engine:
    """An engine at the settings of every accuracy in this project."""
    from lowwatt.runtime import Engine

    return Engine(graph, backend, conf=CONF, iou=IOU, max_det=MAX_DET)


def measure(engine: Engine, data: CocoData, progress: Any = None) -> tuple[Ap, list[tuple[int, Detections]]]:
    """AP and detections by image id; an unreadable image counts as one without detections."""
    from lowwatt.evaluate.coco import coco_ap

    found = engine.stream([str(image.path) for image in data.images], progress=False if progress is None else progress)
    results = [
        (image.id, relabelled(result.detections, data.labels)) for image, result in zip(data.images, found, strict=True)
    ]
    return coco_ap(data, results), results


def measure_classes(classifier: Classifier, data: ClassData, progress: Any = None) -> TopK:
    """Top-1 and top-5; ToolError for an unreadable image, and for a class that the classifier does not have."""
    from lowwatt.evaluate.topk import rank_of, top_k

    beyond = [image for image in data.images if image.label >= classifier.head.num_classes]
    if beyond:
        why = f"class {beyond[0].label} of {beyond[0].path.name}, and the classifier has {classifier.head.num_classes}"
        raise ToolError("the data set has classes that the classifier lacks", where=str(data.source), why=why)
    if progress is not None:
        progress.start(len(data))
    ranks: list[int] = []
    for image, scores in zip(data.images, classifier.stream([i.path for i in data.images]), strict=True):
        ranks.append(rank_of(scores, image.label))
        if progress is not None:
            progress.update(len(ranks))
    if progress is not None:
        progress.finish()
    return top_k(ranks)


def evaluate_file(
    file: Path,
    root: str,
    annotations: str,
    backend: str,
    limit: int,
    progress: Any = None,
    *,
    labels: Path | None = None,
    pixels: str = "",
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """AP of a detector on a COCO data set, or top-k of a classifier on a labelled folder, as a json-able table.

    For a network that was trained elsewhere: `labels` is a file of class names, `pixels` a word for what it takes
    (`ir.heads`), and `tell` is given what was worked out.
    """
    from lowwatt.ir import meta
    from lowwatt.loading import load_with_head, read_labels

    graph, line = load_with_head(file, () if labels is None else read_labels(labels), pixels)
    if line:
        tell(line)
    backend = choose_backend(backend, graph.is_quantized)
    if meta.classifier(graph) is not None:
        return _evaluate_classifier(graph, root, backend, limit, progress)
    data = split_for(meta.labels(graph), DataSettings(root=root, val=annotations))
    if limit:
        data = data.first(limit)
    ap, _ = measure(detector(graph, backend), data, progress)
    return {**dataclasses.asdict(ap), "images": len(data)}


def _evaluate_classifier(graph: Graph, root: str, backend: str, limit: int, progress: Any) -> dict[str, Any]:
    from lowwatt.data.folder import read_classes
    from lowwatt.runtime.classifier import Classifier

    data = read_classes(root)
    if limit:
        data = data.first(limit)
    found = measure_classes(Classifier(graph, backend), data, progress)
    return {**dataclasses.asdict(found), "images": len(data)}
