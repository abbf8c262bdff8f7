"""What a network is measured by: AP of a detector, top-1 of a classifier; and the images that it is calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lowwatt.ir import meta
from lowwatt.recipe import DataSettings
from lowwatt.types import Array
from lowwatt.verbs.data import calibration_batches, open_split

if TYPE_CHECKING:
    from lowwatt.data.coco import CocoData
    from lowwatt.data.folder import ClassData
    from lowwatt.ir.graph import Graph

CALIBRATED = 4
"""One image in so many of a classifier's folder, which has no split, is for calibration and is not scored."""


class Yardstick(Protocol):
    """A labelled data set, and what is measured on it."""

    @property
    def name(self) -> str:
        """What is measured."""
        ...

    @property
    def scored(self) -> int:
        """Images behind the figure."""
        ...

    def calibration(self, images: int) -> Iterator[Array]:
        """Batches of float32 NHWC images that are not scored."""
        ...

    def measure(self, graph: Graph, backend: Any, progress: Any) -> float:
        """The figure, 0…1, of a graph on a backend."""
        ...


def yardstick_for(graph: Graph, root: str) -> Yardstick:
    """By the kind of network: a COCO folder for detectors, a labelled folder for classifiers."""
    if meta.classifier(graph) is not None:
        from lowwatt.data.folder import read_classes

        return TopOne(graph, read_classes(root))
    return AveragePrecision(graph, DataSettings(root=root))


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """AP of a detector on the val split; calibration images come from the train split."""

    graph: Graph
    data: DataSettings
    name: str = "AP"

    def calibration(self, images: int) -> Iterator[Array]:
        """Of the train split, spread evenly over it."""
        return calibration_batches(open_split(self.data, "train"), meta.preprocess(self.graph), images)

    @property
    def scored(self) -> int:
        """Images of the val split."""
        return len(self.split())

    def split(self) -> CocoData:
        """The images that are scored."""
        from lowwatt.verbs.evaluate import split_for

        return split_for(meta.labels(self.graph), self.data)

    def measure(self, graph: Graph, backend: Any, progress: Any) -> float:
        """AP50:95 at the settings of every accuracy here."""
        from lowwatt.verbs.evaluate import detector, measure

        return measure(detector(graph, backend), self.split(), progress)[0].ap


@dataclass(frozen=True, slots=True)
class TopOne:
    """Top-1 of a classifier on a labelled folder; every fourth image is kept for calibration."""

    graph: Graph
    data: ClassData
    name: str = "top-1"

    def calibration(self, images: int) -> Iterator[Array]:
        """Of every fourth image."""
        return calibration_batches(self.data.every(CALIBRATED), meta.preprocess(self.graph), images)

    @property
    def scored(self) -> int:
        """The other images."""
        return len(self._others())

    def _others(self) -> ClassData:
        return self.data.every(CALIBRATED, others=True)

    def measure(self, graph: Graph, backend: Any, progress: Any) -> float:
        """Share of the other images whose class is the likeliest."""
        from lowwatt.runtime.classifier import Classifier
        from lowwatt.verbs.evaluate import measure_classes

        return measure_classes(Classifier(graph, backend), self._others(), progress).top1
