"""Classifier: a loaded network on a backend, from images to one number a class."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.runtime.sources import Frame, Image, Source, frames_of
from lowwatt.types import Array


@dataclass(eq=False, kw_only=True)
class _Slot(Slot):
    """One image on its way, and the room for it."""

    buffer: Array
    scores: NDArray[np.float32] | None = None


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
        return next(self.stream([image]))

    def stream(self, source: Source) -> Generator[NDArray[np.float32], None, None]:
        """Numbers of many images, in order; reading and inference overlap. An unreadable image raises ToolError."""
        stages = [Stage("read", [self._prepare]), Stage("infer", [self._infer])]
        slots = [_Slot(buffer=self._ready.buffer()) for _ in range(slots_for(stages))]
        with closing(run_stages(frames_of(source), stages, slots)) as finished:
            for slot in finished:
                if slot.error is not None:
                    raise slot.error
                assert slot.scores is not None  # what the last stage left
                yield slot.scores

    def _prepare(self, slot: _Slot) -> None:
        frame: Frame = slot.item
        self._ready(frame.pixels(self.preprocess.channels), slot.buffer)

    def _infer(self, slot: _Slot) -> None:
        scores = self.backend.run({self.graph.inputs[0]: slot.buffer})[self.head.output].reshape(-1)
        slot.scores = scores.astype(np.float32) if self._quant is None else self._quant.dequantize(scores)
