"""Classifier: a loaded network on a backend, from images to one number a class."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.pipeline import run_stages
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.runtime.sources import Image, Source, images_of, pixels_of
from lowwatt.types import Array


class Classifier:
    """A classifier that is ready to run: classifier("photo.jpg") gives float32 (classes,), greatest for the likeliest.

    ToolError for a graph that is no classifier.
    """

    def __init__(self, graph: Graph, backend: str | Backend = "core") -> None:
        head = meta.classifier(graph)
        if head is None:
            raise ToolError("the graph is no classifier", where=graph.name, why="its description of itself names none")
        self.graph, self.head, self.labels = graph, head, meta.labels(graph)
        self.preprocess = meta.preprocess(graph)
        self.backend = open_backend(backend, graph) if isinstance(backend, str) else backend
        self._quant = graph.tensor(head.output).quant
        self._ready = Preprocessor(self.preprocess, graph.tensor(graph.inputs[0]).quant)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Numbers of the classes of one image, as `Engine` takes it."""
        return self._infer(self._prepare(image))

    def stream(self, source: Source) -> Generator[NDArray[np.float32], None, None]:
        """Numbers of many images, in order; reading and inference overlap. An unreadable image raises ToolError."""
        yield from run_stages(images_of(source), [self._prepare, self._infer])

    def _prepare(self, image: Image) -> Array:
        values, _ = self._ready(pixels_of(image, self.preprocess.channels))
        return values

    def _infer(self, values: Array) -> NDArray[np.float32]:
        scores = self.backend.run({self.graph.inputs[0]: values})[self.head.output].reshape(-1)
        return scores.astype(np.float32) if self._quant is None else self._quant.dequantize(scores)
