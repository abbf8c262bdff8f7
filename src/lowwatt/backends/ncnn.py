"""ncnn's CPU kernels: float graphs, and graphs that were quantized for ncnn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.backends.base import BackendStatus, module_status
from lowwatt.backends.file_backend import FileBackend
from lowwatt.errors import ToolError
from lowwatt.ir import ncnn
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import Runner
from lowwatt.types import Array


class NcnnBackend(FileBackend):
    """A Graph or Program on ncnn. Its layers round what they read, so a quantized graph must be of scheme ncnn."""

    name = "ncnn"

    def __init__(self, source: Any, *, threads: int = 1) -> None:
        self._threads = threads
        super().__init__(source)

    def write_file(self, graph: Graph, folder: Path) -> Path:
        """The .param, with its .bin beside it."""
        return ncnn.write(graph, folder / "graph.param")[0]

    def open_file(self, path: Path) -> Runner:
        """Both files."""
        return open_ncnn(path, threads=self._threads)

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether ncnn is installed."""
        return module_status(cls.name, "ncnn", "pip install ncnn")


def open_ncnn(param: Path, *, threads: int = 1) -> Runner:
    """ncnn's files on its CPU kernels, in float32 and int8. ImportError where ncnn is not installed."""
    import ncnn as runtime

    net = runtime.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise ToolError("ncnn cannot open the model", where=str(param))
    return lambda feeds, names: _infer(net, feeds, names)


def _infer(net: Any, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    """Outputs with the batch that ncnn has not; one extractor computes what they share once."""
    import ncnn as runtime

    extractor = net.create_extractor()
    for key, value in feeds.items():
        extractor.input(key, runtime.Mat(np.ascontiguousarray(value[0])).clone())
    return [_extract(extractor, name) for name in names]


def _extract(extractor: Any, name: str) -> Array:
    status, found = extractor.extract(name)
    if status:
        raise ToolError("ncnn cannot run the model", where=name)
    return np.array(found)[None]
