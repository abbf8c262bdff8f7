"""Engine: a loaded network on a backend, from images to boxes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, parts_of
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.opening import label_indices, load_network, open_backends, with_head
from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.runtime.progress import Progress, telling
from lowwatt.runtime.results import Result, named_pictures
from lowwatt.runtime.sources import Frame, Image, Source, frames_of, is_live, length_of, name_of
from lowwatt.types import Array, Detections, Letterbox

if TYPE_CHECKING:
    from lowwatt.meters import Meter
    from lowwatt.runtime.bench import Bench

IMAGE_STAGES = frozenset({"read", "preprocess", "save"})
"""Stages whose failure is the image's own: it is reported, and the run goes on."""


@dataclass(eq=False, kw_only=True)
class _Slot(Slot):
    """One image on its way through the stages, and the room for it."""

    buffer: Array
    pixels: NDArray[np.uint8] | None = None
    box: Letterbox | None = None
    values: dict[str, Array] = field(default_factory=dict)
    result: Result | None = None


class Engine:
    """A detector that is ready to run.

    `source` is a Graph, a Program, or the path of any file that `lowwatt.load` reads; a float network that was trained
    elsewhere must end in a head that `ir.heads` knows. `backend` is a name or an opened Backend, or a list of these:
    several accelerators that share the work. `conf` is the least score, `iou` the overlap above which the worse of two
    boxes of one class goes, `max_det` the most boxes of an image; `classes` keeps these labels only (names or indices).
    `workers` are the threads of each stage that the processor does itself; a stage that works on one image for more
    than `timeout` seconds (None: never) ends the stream with an error.

    engine("photo.jpg").detections gives the boxes of one image; engine.stream("folder/") those of many.
    """

    def __init__(
        self,
        source: Any,
        backend: str | Backend | Sequence[str | Backend] = "core",
        *,
        conf: float = 0.25,
        iou: float = 0.65,
        max_det: int = 100,
        classes: Sequence[str | int] | None = None,
        workers: int = 1,
        timeout: float | None = 120.0,
    ) -> None:
        loaded = load_network(source)
        self.graph: Graph = loaded if isinstance(loaded, Graph) else loaded.graph
        if not meta.has_head(self.graph):
            loaded = self.graph = with_head(self.graph)
        self.head = meta.head(self.graph)
        self.labels = meta.labels(self.graph)
        self.preprocess = meta.preprocess(self.graph)
        self.backends = open_backends(backend, loaded)
        self.workers, self.timeout, self._max_det = workers, timeout, max_det
        self._kept = None if classes is None else label_indices(classes, self.labels)
        self._input = self.graph.inputs[0]
        self._ready = Preprocessor(self.preprocess, self.graph.tensor(self._input).quant)
        self._boxes = Postprocessor(
            self.head,
            {name: self.graph.tensor(name).quant for name in self.graph.outputs},
            conf=conf,
            iou=iou,
            max_det=max_det if self._kept is None else 1 << 30,
            names=self.labels,
        )

    def __call__(self, image: Image) -> Result:
        """Boxes of one image: a path, or uint8 (H, W), (H, W, 1) or (H, W, 3) in BGR order.

        ToolError for an unreadable image.
        """
        slot = self._slot()
        slot.item = Frame(0, name_of(image, 0), image)
        for stage in self.stages():
            if not slot.attempt(stage.name, stage.workers[0]):
                break
        return self._result(slot, strict=True)

    def stream(
        self,
        source: Source,
        *,
        strict: bool = False,
        progress: bool | Progress = False,
        save: str | Path | None = None,
    ) -> Generator[Result, None, None]:
        """Results of many images, in order, one for each image; all stages work at the same time.

        `source` is a file, a folder, a pattern, a video, a camera's number, a network stream, or an iterable of paths
        and arrays (`sources.frames_of`). Files never lose a frame; of a camera, what nobody had time for is left out.
        An image that cannot be read or saved gives a Result with `error` set; with `strict` it raises. Whatever else
        raises ends the stream with a ToolError that names the image, after the results before it. `progress` shows a
        line on stderr; `save` is a folder for the pictures with boxes. Closing the stream joins its threads.
        """
        frames, stages = frames_of(source), self.stages()
        if save is not None:
            frames = named_pictures(frames, save)
            stages.append(Stage("save", [_save] * self.workers))
        total = None if progress is False else length_of(source)
        slots = slots_for(stages, waiting=0 if is_live(source) else 1)
        with closing(self._results(frames, stages, slots, strict)) as results, telling(progress, total or 0) as teller:
            for done, result in enumerate(results, 1):
                yield result
                if teller is not None:
                    teller.update(done)

    def _results(
        self, frames: Generator[Frame, None, None], stages: Sequence[Stage], count: int, strict: bool
    ) -> Generator[Result, None, None]:
        slots = [self._slot() for _ in range(count)]
        with closing(run_stages(frames, stages, slots, self.timeout)) as finished:
            for slot in finished:
                yield self._result(slot, strict)

    def bench(self, source: Source | None = None, *, seconds: float = 5.0, meter: Meter | None = None) -> Bench:
        """Latency of each stage, throughput, which stage holds it back; with a `meter`, the energy of a frame.

        `source` is gone through again and again for `seconds`; without one, a picture of noise of the network's size.
        """
        from lowwatt.runtime.bench import run_bench

        return run_bench(self, source, seconds, meter)

    # -- stages ------------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """The steps of the work on one image, in order. An accelerator has one thread, which nobody else uses."""
        parts = [parts_of(backend) for backend in self.backends]
        infer = [
            Stage(steps[0].name, [partial(_infer, step.run) for step in steps]) for steps in zip(*parts, strict=True)
        ]
        return [
            Stage("read", [self._read] * self.workers),
            Stage("preprocess", [self._preprocess] * self.workers),
            *infer,
            Stage("postprocess", [self._postprocess] * self.workers),
        ]

    def _slot(self) -> _Slot:
        return _Slot(buffer=self._ready.buffer())

    def _read(self, slot: _Slot) -> None:
        slot.result = None
        slot.pixels = slot.item.pixels(self.preprocess.channels)

    def _preprocess(self, slot: _Slot) -> None:
        assert slot.pixels is not None  # what the stage before left
        _, slot.box = self._ready(slot.pixels, slot.buffer)
        slot.pixels, slot.values = None, {self._input: slot.buffer}

    def _postprocess(self, slot: _Slot) -> None:
        self._check_outputs(slot.values)
        found = self._boxes(slot.values, slot.box)
        if self._kept is not None:
            found = found[np.isin(found.label, self._kept)][: self._max_det]
        slot.values, slot.result = {}, self._answer(slot, found)

    def _check_outputs(self, values: Mapping[str, Array]) -> None:
        """ToolError for what a driver that was interrupted leaves: outputs that are not there, or cut off."""
        for name in self.graph.outputs:
            expected = self.graph.tensor(name).shape
            if name not in values or values[name].shape != expected:
                found = f"its shape is {values[name].shape}" if name in values else "it is absent"
                raise ToolError("the backend gave too little", where=name, why=f"{found}; {expected} is expected")

    def _answer(self, slot: _Slot, found: Detections) -> Result:
        frame: Frame = slot.item
        image = None if isinstance(frame.image, ToolError) else frame.image
        return Result(frame.number, frame.name, found, slot.timing, image=image)

    def _result(self, slot: _Slot, strict: bool) -> Result:
        """What the caller gets of a slot that has been through the stages, or as far as it came."""
        result = slot.result or self._answer(slot, Detections.empty(self.labels))
        if slot.error is not None:
            error = _named(slot.error, slot.stage, slot.item.name)
            if strict or slot.stage not in IMAGE_STAGES:
                raise error from slot.error
            result.error = str(error)
        if slot.item.seconds:
            result.timing["read"] = result.timing.get("read", 0.0) + slot.item.seconds
        return result


def _infer(run: Callable[[Mapping[str, Array]], dict[str, Array]], slot: _Slot) -> None:
    slot.values = run(slot.values)


def _save(slot: _Slot) -> None:
    assert slot.result is not None  # what the stage before left
    slot.result.save(slot.item.picture)


def _named(error: BaseException, stage: str, name: str) -> BaseException:
    """The error with the image's name in it; what only ends a program (Ctrl-C) stays what it is."""
    if isinstance(error, ToolError):
        where = error.where if name in error.where else ", ".join(filter(None, (name, error.where)))
        return ToolError(error.what, where=where, why=error.why, hint=error.hint)
    if not isinstance(error, Exception):
        return error
    return ToolError(f"{stage} failed", where=name, why=f"{type(error).__name__}: {error}")
