"""A loaded network of one output on a backend: images in, real numbers out. Classifier and segmenter read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.runtime.sources import Frame, Image, Source, frames_of, name_of
from lowwatt.types import Array, Letterbox

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class _Slot(Slot):
    """One image on its way, and the room for it."""

    buffer: Array
    box: Letterbox | None = None
    numbers: NDArray[np.float32] | None = None
    result: Any = None


class ImageNetwork(ABC, Generic[T]):
    """Pre-processing and inference; `output` names the one tensor that is read."""

    def __init__(self, graph: Graph, output: str, backend: str | Backend) -> None:
        self.graph, self.output, self.labels = graph, output, meta.labels(graph)
        self.preprocess = meta.preprocess(graph)
        self.backend = open_backend(backend, graph) if isinstance(backend, str) else backend
        self._quant = graph.tensor(output).quant
        self._ready = Preprocessor(self.preprocess, graph.tensor(graph.inputs[0]).quant)

    @abstractmethod
    def answer(self, numbers: NDArray[np.float32], box: Letterbox) -> T:
        """What the output without its first axis says, of an image that lies so in the input."""

    def __call__(self, image: Image) -> T:
        """Of one image, as `Engine` takes it. ToolError for an unreadable one."""
        slot = self._slot()
        slot.item = Frame(0, name_of(image, 0), image)
        for work in (self._prepare, self._infer, self._finish):
            work(slot)
        answer: T = slot.result
        return answer

    def stream(self, source: Source) -> Generator[T, None, None]:
        """Of many images, in order; the stages overlap. An unreadable image raises ToolError."""
        stages = [Stage("read", [self._prepare]), Stage("infer", [self._infer]), Stage("finish", [self._finish])]
        slots = [self._slot() for _ in range(slots_for(stages))]
        with closing(run_stages(frames_of(source), stages, slots)) as finished:
            for slot in finished:
                if slot.error is not None:
                    raise slot.error
                yield slot.result

    def _slot(self) -> _Slot:
        return _Slot(buffer=self._ready.buffer())

    def _prepare(self, slot: _Slot) -> None:
        frame: Frame = slot.item
        _, slot.box = self._ready(frame.pixels(self.preprocess.channels), slot.buffer)

    def _infer(self, slot: _Slot) -> None:
        found = self.backend.run({self.graph.inputs[0]: slot.buffer})[self.output][0]
        slot.numbers = found.astype(np.float32) if self._quant is None else self._quant.dequantize(found)

    def _finish(self, slot: _Slot) -> None:
        assert slot.numbers is not None and slot.box is not None  # what the stages before left
        slot.result = self.answer(slot.numbers, slot.box)
