"""A program's segments side by side: those of the accelerator on one backend, those of the host on another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any

from lowwatt.backends.base import Backend, BackendStatus, Part, module_status, quantized_graph_of, quants_of
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.types import Array

Opener = Callable[[Graph], Backend]
"""What opens one segment."""


class MixedBackend:
    """Runs a Program: `dpu` and `host` are the backends of its two sides, by name or as what opens a segment.

    `parts` are its segments: a pipeline gives each a worker of its own, so that the accelerator has the next image
    while the host is busy with the middle of this one. Two segments of one side never run at the same time: there is
    one accelerator, and it is the program's.
    """

    name = "mixed"
    of_programs = True

    def __init__(self, source: Any, dpu: str | Opener = "core", host: str | Opener = "onnxruntime") -> None:
        self.graph = quantized_graph_of(source, self.name)
        segments = getattr(source, "segments", ())
        if not segments:
            why = "it was given a graph, which has no segments"
            raise ToolError(f"the {self.name} backend runs programs", why=why, hint="lowwatt compile the graph first")
        self.inputs, self.outputs = tuple(self.graph.inputs), tuple(self.graph.outputs)
        self.quants = quants_of(self.graph)
        sides = {"dpu": (_opener(dpu), Lock()), "host": (_opener(host), Lock())}
        self.parts = tuple(
            Part(f"infer {number} {segment.side}", _step(segment.graph, *sides[segment.side]))
            for number, segment in enumerate(segments, 1)
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers where quantized."""
        return interpreter.in_batches(self.graph, inputs, self._run_batch)

    def _run_batch(self, values: dict[str, Array]) -> dict[str, Array]:
        for part in self.parts:
            values = part.run(values)
        return interpreter.outputs_of(self.graph, values)

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether the usual backend of the host's side is installed."""
        return module_status(cls.name, "onnxruntime", "pip install onnxruntime")


def _opener(side: str | Opener) -> Opener:
    from lowwatt.backends import open_backend

    return partial(open_backend, side) if isinstance(side, str) else side


def _step(graph: Graph, opened: Opener, lock: Lock) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A segment on its backend, one image at a time."""
    backend = opened(graph)

    def run(values: Mapping[str, Array]) -> dict[str, Array]:
        with lock:
            return {**values, **backend.run({name: values[name] for name in graph.inputs})}

    return run
