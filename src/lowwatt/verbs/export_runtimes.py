"""The targets' own runtimes, where they are installed: what they make of an exported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import Runner, validate
from lowwatt.types import Array
from lowwatt.verbs.export_source import Inputs


def open_openvino(path: str | Path) -> Runner:
    """An ONNX file on OpenVINO's CPU plugin, in float32 and int8. ImportError where OpenVINO is not installed."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", hint)
    except RuntimeError as error:  # what OpenVINO raises for everything
        raise ToolError("openvino cannot open the model", where=str(path), why=str(error).strip()[:300]) from None
    return lambda feeds, names: _infer(compiled, feeds, names)


def _infer(compiled: object, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    result = compiled(dict(feeds))  # type: ignore[operator]
    return [np.array(result[name]) for name in names]


def prove_on(name: str, opened: Opener, graph: Graph, path: Path, samples: Sequence[Inputs]) -> str:
    """A line for the proof: a runtime against the integer reference, or how to get it."""
    try:
        runner = opened(path)
    except ImportError:
        return f"not run on {name}, which is not installed: pip install {name}"
    return f"{name} (CPU) against the integer reference: {validate(graph, samples, [runner])[0]}"


Opener = Callable[[Path], Runner]
"""Opens an exported file; ImportError where the runtime is not installed."""

RUNTIMES: dict[str, Opener] = {"openvino": open_openvino}
"""Scheme → the runtime of its name, for QDQ files. onnxruntime is asked for every scheme."""
