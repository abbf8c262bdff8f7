"""What a network is measured by: AP of a detector, top-1 of a classifier, mIoU of a segmenter; and its calibration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.ir import meta
from lowwatt.recipe import DataSettings
from lowwatt.types import Array
from lowwatt.verbs.data import calibration_batches, open_split

if TYPE_CHECKING:
    from lowwatt.ir.graph import Graph

CALIBRATED = 4
"""One image in so many of a classifier's folder that has no split is for calibration and is not scored."""
LEAST_AP50 = 0.02
"""Below this a detector finds next to nothing."""


@dataclass(frozen=True, slots=True)
class Score:
    """The figure, 0…1, by which networks are compared, and the second one beside it; what was found, by image."""

    value: float
    second: float
    found: Any = None


class Yardstick(ABC):
    """A labelled data set, and what is measured on it. The splits are opened when they are first needed."""

    name: str
    """What is measured."""
    second: str
    """What is told beside it."""

    def __init__(self, graph: Graph, train: Callable[[], Any], val: Callable[[], Any]) -> None:
        self.graph, self._train, self._val = graph, train, val

    @cached_property
    def val(self) -> Any:
        """The images that are scored."""
        return self._val()

    @property
    def scored(self) -> int:
        """How many they are."""
        return len(self.val)

    def calibration(self, images: int) -> Iterator[Array]:
        """Batches of float32 NHWC images that are not scored, spread evenly over the train split."""
        return calibration_batches(self._train(), meta.preprocess(self.graph), images)

    def measure(self, graph: Graph, backend: Any, progress: Any) -> float:
        """The figure of a graph on a backend."""
        return self.score(graph, backend, progress).value

    @abstractmethod
    def score(self, graph: Graph, backend: Any, progress: Any) -> Score:
        """Both figures of a graph on a backend."""

    @abstractmethod
    def warning(self, score: Score) -> str:
        """Empty, or why there is nothing to lose by INT8: the float network itself has learnt next to nothing."""


class AveragePrecision(Yardstick):
    """AP50:95 and AP50 of a detector, at the settings of every accuracy here."""

    name, second = "AP", "AP50"

    def score(self, graph: Graph, backend: Any, progress: Any) -> Score:
        """Found are pairs of image id and detections."""
        from lowwatt.verbs.evaluate import detector, measure

        ap, found = measure(detector(graph, backend), self.val, progress)
        return Score(ap.ap, ap.ap50, found)

    def warning(self, score: Score) -> str:
        """A network that detects nothing loses nothing."""
        if score.second >= LEAST_AP50:
            return ""
        return "The float network itself detects next to nothing: train it longer, or look at `lowwatt data check`"


class TopOne(Yardstick):
    """Share of images whose class is the likeliest, and among the five likeliest."""

    name, second = "top-1", "top-5"

    def score(self, graph: Graph, backend: Any, progress: Any) -> Score:
        """Both shares."""
        from lowwatt.runtime.classifier import Classifier
        from lowwatt.verbs.evaluate import measure_classes

        found = measure_classes(Classifier(graph, backend), self.val, progress)
        return Score(found.top1, found.top5)

    def warning(self, score: Score) -> str:
        """Naming the most frequent class each time needs no network."""
        share = self.majority()
        if score.value > share:
            return ""
        return f"The float network is no better than always naming the most frequent class ({share:.1%} of the images)"

    def majority(self) -> float:
        """Share of the most frequent class."""
        return float(np.bincount([image.label for image in self.val.images]).max() / self.scored)


class MeanIoU(Yardstick):
    """Mean intersection over union of a segmenter's classes, and share of pixels that are right."""

    name, second = "mIoU", "pixel accuracy"

    def score(self, graph: Graph, backend: Any, progress: Any) -> Score:
        """Over all pixels of the split."""
        from lowwatt.runtime.segmenter import Segmenter
        from lowwatt.verbs.evaluate import measure_masks

        found = measure_masks(Segmenter(graph, backend), self.val, progress)
        return Score(found.miou, found.pixel_accuracy)

    def warning(self, score: Score) -> str:
        """One class everywhere has at most 1 / classes."""
        share = 1 / max(1, len(self.val.labels))
        if score.value > share:
            return ""
        return f"The float network is no better than one class everywhere (mIoU of at most {share:.3f})"


def yardstick_of(graph: Graph, train: Callable[[], Any], val: Callable[[], Any]) -> Yardstick:
    """By the kind of network, on splits that are opened by these functions."""
    if meta.classifier(graph) is not None:
        return TopOne(graph, train, val)
    return (AveragePrecision if meta.segmenter(graph) is None else MeanIoU)(graph, train, val)


def yardstick_for(graph: Graph, root: str, annotations: str = DataSettings().val) -> Yardstick:
    """On the data set in a folder: COCO for detectors, classes or masks in train/ and val/ for the others.

    A classifier's folder may also have no splits; then every fourth image is for calibration. Classes are numbered as
    the graph has them.
    """
    settings, labels, segmenter = DataSettings(root=root, val=annotations), meta.labels(graph), meta.segmenter(graph)
    if segmenter is not None:
        from lowwatt.data.masks import open_masks

        named, ignore = settings.model_copy(update={"classes": list(labels)}), segmenter.ignore
        return MeanIoU(
            graph, lambda: open_masks(named, ignore, ("train",))[0], lambda: open_masks(named, ignore, ("val",))[0]
        )
    if meta.classifier(graph) is not None:
        return _on_classes(graph, settings, labels)
    from lowwatt.verbs.evaluate import split_for

    return AveragePrecision(graph, lambda: open_split(settings, "train"), lambda: split_for(labels, settings))


def _on_classes(graph: Graph, settings: DataSettings, labels: tuple[str, ...]) -> Yardstick:
    from lowwatt.data.folder import class_folder, read_classes

    if class_folder(settings, "val").is_dir():
        train, val = (
            lambda split=split: read_classes(class_folder(settings, split)).numbered(labels)
            for split in ("train", "val")
        )
        return TopOne(graph, train, val)
    data = read_classes(Path(settings.root)).numbered(labels)
    return TopOne(graph, lambda: data.every(CALIBRATED), lambda: data.every(CALIBRATED, others=True))
