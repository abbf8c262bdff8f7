"""Engine: a loaded network on a backend, from images to boxes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir import meta
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.letterbox import letterbox
from lowwatt.runtime.pipeline import run_stages
from lowwatt.runtime.postprocess import postprocess
from lowwatt.runtime.sources import Image, Source, images_of, name_of, pixels_of
from lowwatt.types import Array, Detections, Letterbox, Result


@dataclass(slots=True)
class _Frame:
    """One image on its way through the stages."""

    number: int
    image: Image
    values: Array | None = None
    box: Letterbox | None = None
    outputs: dict[str, Array] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    error: ToolError | None = None


class Engine:
    """A detector that is ready to run.

    `source` is a Graph, a Program, or the path of any file that `lowwatt.load` reads; a float network that was trained
    elsewhere must end in a head that `ir.heads` knows. `backend` is a name or an opened Backend. `conf` is the least
    score, `iou` the overlap above which the worse of two boxes of one class goes, `max_det` the most boxes of an image;
    `classes` keeps these labels only (names or indices).

    engine("photo.jpg").detections gives the boxes of one image; engine.stream("folder/") those of many.
    """

    def __init__(
        self,
        source: Any,
        backend: str | Backend = "core",
        *,
        conf: float = 0.25,
        iou: float = 0.65,
        max_det: int = 100,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        loaded = _load(source)
        self.graph: Graph = loaded if isinstance(loaded, Graph) else loaded.graph
        if not meta.has_head(self.graph):
            loaded = self.graph = _with_head(self.graph)
        self.head = meta.head(self.graph)
        self.labels = meta.labels(self.graph)
        self.preprocess = meta.preprocess(self.graph)
        self.backend = open_backend(backend, loaded) if isinstance(backend, str) else backend
        self.conf, self.iou, self.max_det = conf, iou, max_det
        self._kept = None if classes is None else _indices(classes, self.labels)
        self._input = self.graph.inputs[0]
        self._quants = {name: self.graph.tensor(name).quant for name in self.graph.outputs}
        quant = self.graph.tensor(self._input).quant
        self._grid = None if quant is None else quantize(np.arange(256.0), quant)

    def __call__(self, image: Image) -> Result:
        """Boxes of one image: a path, or uint8 (H, W), (H, W, 1) or (H, W, 3) in BGR order.

        ToolError for an unreadable image.
        """
        frame = self._finish(self._infer(self._prepare((0, image))))
        return self._result(frame, strict=True)

    def stream(self, source: Source, *, strict: bool = False) -> Generator[Result, None, None]:
        """Results of many images, in order, one for each image; reading, inference and decoding overlap.

        `source` is a file, a folder, a pattern, or an iterable of paths and arrays. An unreadable image gives a
        Result with `error` set and no boxes; with `strict` it raises. Closing the stream stops its threads.
        """
        frames = run_stages(enumerate(images_of(source)), [self._prepare, self._infer, self._finish])
        try:
            for frame in frames:
                yield self._result(frame, strict)
        finally:
            frames.close()

    # -- stages --------------------------------------------------------------------------------------------

    def _prepare(self, numbered: tuple[int, Image]) -> _Frame:
        frame = _Frame(*numbered)
        try:
            with _timed(frame, "read"):
                pixels = pixels_of(frame.image, self.preprocess.channels)
            with _timed(frame, "preprocess"):
                padded, frame.box = letterbox(pixels, self.preprocess)
                values = padded.astype(np.float32) if self._grid is None else self._grid[padded]
                frame.values = values[None]
        except ToolError as error:
            frame.error = error
        return frame

    def _infer(self, frame: _Frame) -> _Frame:
        if frame.values is not None:
            with _timed(frame, "infer"):
                frame.outputs = self.backend.run({self._input: frame.values})
            frame.values = None
        return frame

    def _finish(self, frame: _Frame) -> tuple[_Frame, Detections]:
        if frame.error is not None:
            return frame, Detections.empty(self.labels)
        with _timed(frame, "postprocess"):
            found = postprocess(
                frame.outputs,
                self._quants,
                self.head,
                frame.box,
                conf=self.conf,
                iou=self.iou,
                max_det=self.max_det if self._kept is None else 1 << 30,
                names=self.labels,
            )
            if self._kept is not None:
                found = found[np.isin(found.label, self._kept)][: self.max_det]
        return frame, found

    def _result(self, finished: tuple[_Frame, Detections], strict: bool) -> Result:
        frame, found = finished
        if frame.error is not None and strict:
            raise frame.error
        error = "" if frame.error is None else str(frame.error)
        return Result(frame.number, name_of(frame.image, frame.number), found, frame.timing, error)


def _load(source: Any) -> Any:
    """Graph or Program; a trained Model becomes its float graph."""
    if isinstance(source, (str, Path)):
        from lowwatt import loading

        loaded = loading.load(source)
        return loaded if isinstance(getattr(loaded, "graph", loaded), Graph) else loading.load_graph(source)
    if not isinstance(getattr(source, "graph", source), Graph):
        raise ToolError("the engine takes a graph, a program or a path", why=f"it was given {type(source).__name__}")
    return source


def _with_head(graph: Graph) -> Graph:
    """A network from elsewhere, cut before its own decoding; the caller's graph stays whole."""
    from lowwatt.ir.heads import attach_head

    cut = graph.copy()
    attach_head(cut)
    return cut


def _indices(classes: Sequence[str | int], labels: Sequence[str]) -> NDArray[np.int64]:
    found = []
    for name in classes:
        if isinstance(name, int):
            found.append(name)
        elif name in labels:
            found.append(labels.index(name))
        else:
            raise ToolError(f"the detector knows no class {name}", hint=did_you_mean(name, labels))
    return np.array(found, np.int64)


@contextmanager
def _timed(frame: _Frame, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        frame.timing[stage] = time.perf_counter() - start
