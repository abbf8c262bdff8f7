"""Backends: one short file each; `open_backend` opens a network on one of them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from lowwatt.backends.base import Backend, BackendStatus, Part, parts_of
from lowwatt.errors import ToolError, did_you_mean

__all__ = ["Backend", "BackendStatus", "Part", "available", "backend_names", "open_backend", "parts_of"]

_BACKENDS = {
    "reference": ("lowwatt.backends.reference", "ReferenceBackend"),
    "core": ("lowwatt.backends.core", "CoreBackend"),
    "simulator": ("lowwatt.backends.simulator", "SimulatorBackend"),
    "onnxruntime": ("lowwatt.backends.onnxruntime", "OnnxRuntimeBackend"),
    "mixed": ("lowwatt.backends.mixed", "MixedBackend"),
    "litert": ("lowwatt.backends.litert", "LiteRtBackend"),
}


def backend_names() -> tuple[str, ...]:
    """Names that `open_backend` takes."""
    return tuple(_BACKENDS)


def open_backend(name: str, source: Any, **options: Any) -> Backend:
    """Open a network on a backend.

    `source` is a Graph or a Program; for onnxruntime also the path of an ONNX file, for litert of a .tflite; for mixed
    a Program. `options` go to the backend (core: isa; simulator: fidelity; onnxruntime: optimise, threads; mixed: dpu,
    host; litert: threads, xnnpack, graph). ToolError for an unknown name, or a network that the backend does not take.

    >>> open_backend("referense", None)
    Traceback (most recent call last):
    lowwatt.errors.ToolError: unknown backend referense
    <BLANKLINE>
    hint: did you mean "reference"?
    """
    if name not in _BACKENDS:
        raise ToolError(f"unknown backend {name}", hint=did_you_mean(name, _BACKENDS))
    module, kind = _BACKENDS[name]
    backend: Backend = getattr(importlib.import_module(module), kind)(source, **options)
    return backend


def available() -> list[BackendStatus]:
    """Every backend, with whether it can be used on this machine."""
    return [_status(name) for name in _BACKENDS]


def _status(name: str) -> BackendStatus:
    if name in ("onnxruntime", "mixed"):
        return _module_status(name, "onnxruntime", "pip install onnxruntime")
    if name == "litert":
        return _module_status(name, "ai_edge_litert", "pip install ai-edge-litert")
    if name in ("core", "simulator"):
        return _module_status(name, "lowwatt._core", "pip install . with a C++17 compiler")
    return BackendStatus(name, True, "NumPy")


def _module_status(name: str, module: str, how: str) -> BackendStatus:
    if importlib.util.find_spec(module) is None:
        return BackendStatus(name, False, f"the module {module} is not installed", how)
    try:
        version = getattr(importlib.import_module(module), "__version__", "")
    except ImportError as error:
        return BackendStatus(name, False, f"{module} does not load: {error}", how)
    return BackendStatus(name, True, f"{module} {version}".strip())
