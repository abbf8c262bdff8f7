"""OpenVINO's CPU plugin: float graphs, and quantized graphs through QDQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from lowwatt.backends.base import BackendStatus, module_status
from lowwatt.backends.file_backend import FileBackend
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.onnx_qdq import Runner
from lowwatt.types import Array


class OpenVinoBackend(FileBackend):
    """A Graph or Program on the CPU plugin.

    `int8` lets the plugin put its own INT8 kernels in place of the roundings: quicker, and what OpenVINO does when it
    opens the file itself, but it is right for graphs of scheme openvino (unsigned activations) only, and None stands
    for that. Without it the roundings of the file are kept and float32 is computed between them, which gives the DPU's
    integers exactly.
    """

    name = "openvino"

    def __init__(self, source: Any, *, int8: bool | None = None, threads: int = 0) -> None:
        self._int8, self._threads = int8, threads
        super().__init__(source)

    def _wants_int8(self) -> bool:
        tag = meta.scheme(self.graph)
        return self._int8 if self._int8 is not None else tag is not None and tag.name == self.name

    def open_file(self, path: Path) -> Runner:
        """The ONNX file, compiled by the plugin."""
        return open_openvino(path, int8=self._wants_int8(), threads=self._threads)

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether OpenVINO is installed."""
        return module_status(cls.name, "openvino", "pip install openvino")


def open_openvino(path: str | Path, *, int8: bool = True, threads: int = 1) -> Runner:
    """An ONNX file on the CPU plugin, in float32, with its INT8 kernels where `int8`; `threads` 0: as many as it likes.

    ImportError where OpenVINO is not installed; ToolError for a file that it does not open.
    """
    import openvino

    # The plugin's name for replacing FakeQuantize by integer kernels, of which those for signed activations err.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": int8}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:  # what OpenVINO raises for everything
        raise ToolError("openvino cannot open the model", where=str(path), why=str(error).strip()[-300:]) from None
    lock = Lock()

    def run(feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        with lock:  # there is one request, and its outputs are its own memory
            result = compiled(dict(feeds))
            return [np.array(result[name]) for name in names]

    return run
