"""onnxruntime: float graphs, quantized graphs through QDQ, and any ONNX file as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.backends.base import graph_of, quants_of
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir import interpreter, onnx_qdq
from lowwatt.ir.graph import Graph
from lowwatt.types import Array, QuantParams


class OnnxRuntimeBackend:
    """`source` is a Graph or Program, or the path of an ONNX file.

    A graph answers as on every other backend: NHWC, raw integers where quantized. A quantized one runs as QDQ with
    graph optimisation off, which equals the integer reference exactly, but for float islands: onnxruntime computes
    them in float32, so that a value beside a rounding boundary may go to the other side. `optimise` turns it on:
    quicker, but a tie may round differently. A file answers as it is: its own names, layouts and types.
    """

    name = "onnxruntime"

    def __init__(self, source: Any, *, optimise: bool | None = None, threads: int = 0) -> None:
        self._threads = threads
        if isinstance(source, (str, Path)):
            self.graph: Graph | None = None
            self._session = self._open(Path(source), optimise is not False)
            self.inputs = tuple(value.name for value in self._session.get_inputs())
            self.outputs = tuple(value.name for value in self._session.get_outputs())
            self.quants: dict[str, QuantParams | None] = dict.fromkeys((*self.inputs, *self.outputs))
            return
        self.graph = graph = graph_of(source, self.name)
        self.inputs, self.outputs = tuple(graph.inputs), tuple(graph.outputs)
        self.quants = quants_of(graph)
        self._session = self._open_graph(graph, optimise)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        if self.graph is None:
            return self._feed(_checked(inputs, self._session.get_inputs()))
        return interpreter.in_batches(self.graph, inputs, self._run_graph)

    def _run_graph(self, values: dict[str, Array]) -> dict[str, Array]:
        assert self.graph is not None
        feeds = {name: onnx_qdq.to_onnx(self.graph.tensor(name), value) for name, value in values.items()}
        found = self._feed(feeds)
        return {name: onnx_qdq.from_onnx(self.graph.tensor(name), found[name]) for name in self.outputs}

    def _feed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            found = self._session.run(list(self.outputs), dict(feeds))
        except Exception as error:  # onnxruntime's own exception types are not public
            raise ToolError("onnxruntime refused to run the network", why=str(error).strip()) from None
        return dict(zip(self.outputs, found, strict=True))

    def _open_graph(self, graph: Graph, optimise: bool | None) -> Any:
        quantized = graph.has_integers
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            _write(graph, path, quantized)
            return self._open(path, not quantized if optimise is None else optimise)

    def _open(self, path: Path, optimise: bool) -> Any:
        import onnxruntime

        if not path.is_file():
            raise ToolError("no such file", where=str(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.intra_op_num_threads = self._threads
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ToolError("onnxruntime cannot open the model", where=str(path), why=str(error).strip()) from None


def _write(graph: Graph, path: Path, quantized: bool) -> None:
    if quantized:
        onnx_qdq.write(graph, path)
    else:
        from lowwatt.ir import onnx_writer

        onnx_writer.write(graph, path)


def _checked(inputs: Mapping[str, Array], entries: Sequence[Any]) -> dict[str, Array]:
    """What a file's own inputs take: nothing missing, nothing unknown, the file's own shapes."""
    names = [entry.name for entry in entries]
    for name in inputs:
        if name not in names:
            raise ToolError("the network has no such input", where=name, hint=did_you_mean(name, names))
    for name in names:
        if name not in inputs:
            raise ToolError("an input is missing", where=name)
    return {entry.name: _fitting(entry, np.asarray(inputs[entry.name])) for entry in entries}


def _fitting(entry: Any, value: Array) -> Array:
    """The value, real ones as float32 where the file takes that. A size that is no number is free."""
    sizes = tuple(entry.shape)
    free = tuple(given if not isinstance(size, int) else size for size, given in zip(sizes, value.shape, strict=False))
    if sizes and (value.ndim != len(sizes) or free != value.shape):
        raise ToolError(
            "the input has the wrong shape",
            where=entry.name,
            why=f"{value.shape}, not {sizes}",
            hint="an ONNX file takes arrays as it has them: feature maps are (N, C, H, W)",
        )
    single = entry.type == "tensor(float)" and np.issubdtype(value.dtype, np.floating)
    return value.astype(np.float32) if single else value
