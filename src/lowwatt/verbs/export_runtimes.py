"""The targets' own runtimes, where they are installed: what they make of an exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lowwatt.backends.openvino import open_openvino
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import Runner, validate
from lowwatt.verbs.export_source import Inputs


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
