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


def prove_openvino(graph: Graph, path: Path, samples: Sequence[Inputs]) -> str:
    """A line for the proof: OpenVINO against the integer reference, or how to get it."""
    try:
        runner = open_openvino(path)
    except ImportError:
        return "not run on openvino, which is not installed: pip install openvino"
    return f"openvino (CPU) against the integer reference: {validate(graph, samples, [runner])[0]}"


RUNTIMES: dict[str, Callable[[Graph, Path, Sequence[Inputs]], str]] = {"openvino": prove_openvino}
"""Scheme → its runtime's line for the proof of a QDQ file. onnxruntime is asked for every scheme."""
