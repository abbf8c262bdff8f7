"""eval: AP of a detector, top-k accuracy of a classifier or mIoU of a segmenter, through what also serves images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.recipe import DataSettings
from lowwatt.types import Detections
from lowwatt.verbs.data import open_split
from lowwatt.verbs.detect import opened

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.data.coco import CocoData
    from lowwatt.data.folder import ClassData
    from lowwatt.data.masks import MaskData
    from lowwatt.evaluate.coco import Ap
    from lowwatt.evaluate.miou import MIoU
    from lowwatt.evaluate.topk import TopK
    from lowwatt.ir.graph import Graph
    from lowwatt.runtime import Engine
    from lowwatt.runtime.classifier import Classifier
    from lowwatt.runtime.segmenter import Segmenter

T = TypeVar("T")
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


def detector(network: Graph | Program, backend: Any) -> Engine:
    """An engine at the settings of every accuracy in this project."""
    from lowwatt.runtime import Engine

    return Engine(network, backend, conf=CONF, iou=IOU, max_det=MAX_DET)


def measure(engine: Engine, data: CocoData, progress: Any = None) -> tuple[Ap, list[tuple[int, Detections]]]:
    """AP and detections by image id; an unreadable image counts as one without detections."""
    from lowwatt.evaluate.coco import coco_ap

    found = engine.stream([str(image.path) for image in data.images], progress=False if progress is None else progress)
    results = [
        (image.id, relabelled(result.detections, data.labels)) for image, result in zip(data.images, found, strict=True)
    ]
    return coco_ap(data, results), results


def _watched(items: Iterable[T], count: int, progress: Any) -> Iterator[T]:
    """The items; `progress`, where there is one, is told of each."""
    from lowwatt.runtime.progress import telling

    with telling(False if progress is None else progress, count) as teller:
        for done, item in enumerate(items, 1):
            yield item
            if teller is not None:
                teller.update(done)


def measure_classes(classifier: Classifier, data: ClassData, progress: Any = None) -> TopK:
    """Top-1 and top-5; ToolError for an unreadable image, and for a class that the classifier does not have."""
    from lowwatt.evaluate.topk import rank_of, top_k

    beyond = [image for image in data.images if image.label >= classifier.head.num_classes]
    if beyond:
        why = f"class {beyond[0].label} of {beyond[0].path.name}, and the classifier has {classifier.head.num_classes}"
        raise ToolError("the data set has classes that the classifier lacks", where=str(data.source), why=why)
    found = _watched(classifier.stream([i.path for i in data.images]), len(data), progress)
    return top_k([rank_of(scores, image.label) for image, scores in zip(data.images, found, strict=True)])


def measure_masks(segmenter: Segmenter, data: MaskData, progress: Any = None) -> MIoU:
    """Mean IoU over all pixels of a split; ToolError for an unreadable image or mask."""
    from lowwatt.evaluate.miou import counted, mean_iou

    classes = segmenter.head.num_classes
    counts = np.zeros((classes, classes), np.int64)
    found = _watched(segmenter.stream([i.path for i in data.images]), len(data), progress)
    for index, classes_found in enumerate(found):
        counts += counted(data.mask(index), classes_found, classes)
    return mean_iou(counts, data.labels)


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
    """AP of a detector on a COCO data set, top-k of a classifier on labelled folders, or mIoU of a segmenter on masks,
    as a json-able table.

    For a network that was trained elsewhere: `labels` is a file of class names, `pixels` a word for what it takes
    (`ir.heads`), and `tell` is given what was worked out.
    """
    from lowwatt.ir import meta
    from lowwatt.loading import load_with_head, read_labels

    graph, line = load_with_head(file, () if labels is None else read_labels(labels), pixels)
    if line:
        tell(line)
    settings = DataSettings(root=root, val=annotations)
    measured = _measure_classifier if meta.classifier(graph) is not None else _measure_detector
    if meta.segmenter(graph) is not None:
        measured = _measure_segmenter
    found, images = measured(graph, settings, opened(backend, graph, file), limit, progress)
    return {**dataclasses.asdict(found), "images": images}


def _measure_detector(graph: Graph, settings: DataSettings, backend: Any, limit: int, progress: Any) -> tuple[Any, int]:
    from lowwatt.ir import meta

    data = split_for(meta.labels(graph), settings)
    data = data.first(limit) if limit else data
    return measure(detector(graph, backend), data, progress)[0], len(data)


def _measure_classifier(
    graph: Graph, settings: DataSettings, backend: Any, limit: int, progress: Any
) -> tuple[Any, int]:
    """On ROOT/val where there is one, else on the images of ROOT itself."""
    from lowwatt.data.folder import class_folder, read_classes
    from lowwatt.runtime.classifier import Classifier

    folder, network = class_folder(settings, "val"), Classifier(graph, backend)
    data = read_classes(folder if folder.is_dir() else settings.root).numbered(network.labels)
    data = data.first(limit) if limit else data
    return measure_classes(network, data, progress), len(data)


def _measure_segmenter(
    graph: Graph, settings: DataSettings, backend: Any, limit: int, progress: Any
) -> tuple[Any, int]:
    from lowwatt.data.folder import split_folder
    from lowwatt.data.masks import read_masks
    from lowwatt.runtime.segmenter import Segmenter

    network = Segmenter(graph, backend)
    data = read_masks(split_folder(settings, "val"), network.labels, network.head.ignore)
    data = data.first(limit) if limit else data
    return measure_masks(network, data, progress), len(data)
