"""Backends: one short file each; `open_backend` opens a network on one of them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from lowwatt.backends.base import Backend, BackendStatus, Part, parts_of
from lowwatt.errors import ToolError, did_you_mean

__all__ = [
    "Backend",
    "BackendStatus",
    "Part",
    "available",
    "backend_names",
    "open_backend",
    "parts_of",
    "status_of",
    "takes_programs",
]

_BACKENDS = {
    "reference": ("reference", "ReferenceBackend"),
    "core": ("core", "CoreBackend"),
    "simulator": ("simulator", "SimulatorBackend"),
    "mixed": ("mixed", "MixedBackend"),
    "onnxruntime": ("onnxruntime", "OnnxRuntimeBackend"),
    "openvino": ("openvino", "OpenVinoBackend"),
    "ncnn": ("ncnn", "NcnnBackend"),
    "litert": ("litert", "LiteRtBackend"),
    "cuda": ("gpu", "CudaBackend"),
    "tensorrt": ("gpu", "TensorRtBackend"),
    "vart": ("vart", "VartBackend"),
    "pynq": ("vart", "PynqBackend"),
}
"""Name → its file here and its class there, which opens a network and tells its `status`."""

# What `lowwatt bundle` makes for a board has few of the files.
_BACKENDS = {name: kind for name, kind in _BACKENDS.items() if (Path(__file__).parent / f"{kind[0]}.py").is_file()}


def backend_names() -> tuple[str, ...]:
    """Names that `open_backend` takes."""
    return tuple(_BACKENDS)


def open_backend(name: str, source: Any, **options: Any) -> Backend:
    """Open a network on a backend.

    `source` is a Graph or a Program; for onnxruntime also the path of an ONNX file, for litert of a .tflite; for mixed,
    vart and pynq a Program. `options` go to the backend (core: isa; simulator: fidelity; onnxruntime, cuda, tensorrt:
    optimise, threads; openvino: int8, threads; ncnn: threads; litert: threads, xnnpack, graph; mixed: dpu, host; vart:
    xmodel, host; pynq: overlay too). ToolError for an unknown name, a network that the backend does not take, and a
    backend that is not usable here.

    >>> open_backend("referense", None)
    Traceback (most recent call last):
    lowwatt.errors.ToolError: unknown backend referense
    <BLANKLINE>
    hint: did you mean "reference"?
    """
    backend: Backend = _kind(name)(source, **options)
    return backend


def takes_programs(name: str) -> bool:
    """Whether a backend runs what was compiled only.

    >>> takes_programs("mixed"), takes_programs("core")
    (True, False)
    """
    return bool(getattr(_kind(name), "of_programs", False))


def status_of(name: str) -> BackendStatus:
    """Whether one backend can be used on this machine."""
    status: BackendStatus = _kind(name).status()
    return status


def available() -> list[BackendStatus]:
    """Every backend, with whether it can be used on this machine."""
    return [status_of(name) for name in _BACKENDS]


def _kind(name: str) -> Any:
    if name not in _BACKENDS:
        raise ToolError(f"unknown backend {name}", hint=did_you_mean(name, _BACKENDS))
    file, kind = _BACKENDS[name]
    return getattr(importlib.import_module(f"lowwatt.backends.{file}"), kind)
