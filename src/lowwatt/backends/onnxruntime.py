"""onnxruntime: float graphs, quantized graphs through QDQ, and any ONNX file as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.backends.base import BackendStatus, module_status
from lowwatt.backends.file_backend import FileBackend
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.onnx_qdq import Runner
from lowwatt.types import Array


class OnnxRuntimeBackend(FileBackend):
    """`source` is a Graph or Program, or the path of an ONNX file.

    A graph answers as on every other backend: NHWC, raw integers where quantized. A quantized one runs as QDQ with
    graph optimisation off, which equals the integer reference exactly, but for float islands: onnxruntime computes
    them in float32, so that a value beside a rounding boundary may go to the other side. `optimise` turns it on:
    quicker, but a tie may round differently. A file answers as it is: its own names, layouts and types.
    """

    name = "onnxruntime"
    providers: tuple[Any, ...] = ("CPUExecutionProvider",)
    """Who runs the nodes, the first choice first; names, or names with their options."""

    def __init__(self, source: Any, *, optimise: bool | None = None, threads: int = 0) -> None:
        self._threads, self._optimise = threads, optimise
        self._entries: Sequence[Any] = ()
        if isinstance(source, (str, Path)):
            self._take_file(Path(source))
        else:
            super().__init__(source)

    def _take_file(self, path: Path) -> None:
        """Somebody's file, with its own names."""
        self.status().require()
        session = self._open(path, self._optimise is not False)
        self._entries = session.get_inputs()
        self._runner = lambda feeds, names: _feed(session, feeds, names)
        self.inputs = tuple(value.name for value in self._entries)
        self.outputs = tuple(value.name for value in session.get_outputs())
        self.quants = dict.fromkeys((*self.inputs, *self.outputs))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        if not self._entries:
            return super().run(inputs)
        found = self._runner(_checked(inputs, self._entries), self.outputs)
        return dict(zip(self.outputs, found, strict=True))

    def open_file(self, path: Path) -> Runner:
        """A graph's file: the optimiser's fusions round elsewhere than a quantized one says."""
        session = self._open(path, not self.graph.has_integers if self._optimise is None else self._optimise)
        return lambda feeds, names: _feed(session, feeds, names)

    def _open(self, path: Path, optimise: bool) -> Any:
        if not path.is_file():
            raise ToolError("no such file", where=str(path))
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.intra_op_num_threads = self._threads
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        return self._create(str(path), options)

    def _create(self, path: str, options: Any) -> Any:
        import onnxruntime

        try:
            return onnxruntime.InferenceSession(path, options, providers=list(self.providers))
        except Exception as error:  # onnxruntime's own exception types are not public
            raise ToolError(f"{self.name} cannot open the model", where=path, why=str(error).strip()) from None

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether onnxruntime is installed."""
        return module_status(cls.name, "onnxruntime", "pip install onnxruntime")


def _feed(session: Any, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    try:
        found: list[Array] = session.run(list(names), dict(feeds))
    except Exception as error:
        raise ToolError("onnxruntime refused to run the network", why=str(error).strip()) from None
    return found


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
