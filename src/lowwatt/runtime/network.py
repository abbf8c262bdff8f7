"""A loaded network of one output on a backend: images in, real numbers out. Classifier and segmenter read them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.runtime.sources import Frame, Source, frames_of
from lowwatt.types import Array, Letterbox

T = TypeVar("T")
Reader = Callable[[NDArray[np.float32], Letterbox], T]
"""(numbers of the output without its first axis, where the image lies in the input) → what the network says."""


@dataclass(eq=False, kw_only=True)
class _Slot(Slot):
    """One image on its way, and the room for it."""

    buffer: Array
    box: Letterbox | None = None
    numbers: NDArray[np.float32] | None = None
    result: Any = None


class ImageNetwork:
    """Pre-processing and inference; `output` names the one tensor that is read."""

    def __init__(self, graph: Graph, output: str, backend: str | Backend) -> None:
        self.graph, self.output, self.labels = graph, output, meta.labels(graph)
        self.preprocess = meta.preprocess(graph)
        self.backend = open_backend(backend, graph) if isinstance(backend, str) else backend
        self._quant = graph.tensor(output).quant
        self._ready = Preprocessor(self.preprocess, graph.tensor(graph.inputs[0]).quant)

    def results(self, source: Source, reader: Reader[T]) -> Generator[T, None, None]:
        """What `reader` makes of each image, in order; the stages overlap. An unreadable image raises ToolError."""

        def finish(slot: _Slot) -> None:
            assert slot.numbers is not None and slot.box is not None  # what the stages before left
            slot.result = reader(slot.numbers, slot.box)

        stages = [Stage("read", [self._prepare]), Stage("infer", [self._infer]), Stage("finish", [finish])]
        slots = [_Slot(buffer=self._ready.buffer()) for _ in range(slots_for(stages))]
        with closing(run_stages(frames_of(source), stages, slots)) as finished:
            for slot in finished:
                if slot.error is not None:
                    raise slot.error
                yield slot.result

    def _prepare(self, slot: _Slot) -> None:
        frame: Frame = slot.item
        _, slot.box = self._ready(frame.pixels(self.preprocess.channels), slot.buffer)

    def _infer(self, slot: _Slot) -> None:
        found = self.backend.run({self.graph.inputs[0]: slot.buffer})[self.output][0]
        slot.numbers = found.astype(np.float32) if self._quant is None else self._quant.dequantize(found)
