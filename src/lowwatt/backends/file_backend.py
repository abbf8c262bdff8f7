"""What backends share that run on somebody else's runtime: the graph goes there as a file of the runtime's own form."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowwatt.backends.base import BackendStatus, graph_of, quants_of
from lowwatt.ir import interpreter, onnx_qdq, onnx_writer
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import Runner
from lowwatt.types import Array, QuantParams


class FileBackend(ABC):
    """A Graph, or a Program's, written to a temporary file and opened from there.

    It answers as every backend does: NHWC, raw integers where quantized. Between the file's quantizations the runtime
    computes in its own way, float32 for most, so that a value beside a rounding boundary may go to the other side.
    """

    name: str

    def __init__(self, source: Any) -> None:
        self.graph: Graph = graph_of(source, self.name)
        self.status().require()
        self.inputs, self.outputs = tuple(self.graph.inputs), tuple(self.graph.outputs)
        self.quants: dict[str, QuantParams | None] = quants_of(self.graph)
        with tempfile.TemporaryDirectory() as folder:
            self._runner = self.open_file(self.write_file(self.graph, Path(folder)))

    def write_file(self, graph: Graph, folder: Path) -> Path:
        """The graph in a form that the runtime reads: ONNX, with QDQ where it is quantized."""
        path = folder / "graph.onnx"
        if graph.has_integers:
            onnx_qdq.write(graph, path)
        else:
            onnx_writer.write(graph, path)
        return path

    @classmethod
    @abstractmethod
    def status(cls) -> BackendStatus:
        """Whether the runtime is installed here."""

    @abstractmethod
    def open_file(self, path: Path) -> Runner:
        """Open the file on the runtime; what is opened must not need the file afterwards."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        return interpreter.in_batches(self.graph, inputs, self._run_graph)

    def _run_graph(self, values: dict[str, Array]) -> dict[str, Array]:
        feeds = {name: onnx_qdq.to_onnx(self.graph.tensor(name), value) for name, value in values.items()}
        found = zip(self.outputs, self._runner(feeds, self.outputs), strict=True)
        return {name: onnx_qdq.from_onnx(self.graph.tensor(name), value) for name, value in found}
