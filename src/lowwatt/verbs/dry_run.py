"""A dry run: whether a network can be quantized and exported for a target, before anything long starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.quant.scheme import Scheme, load_scheme
from lowwatt.types import Array
from lowwatt.verbs.compile import DEFAULT_TARGET
from lowwatt.verbs.export import FORMATS, export_graph

IMAGES = 2
"""Random images that stand for the calibration set."""

UNTRIED = ("xmodel-compiled",)
"""Left out unless it is asked for: it compiles the network, and what it refuses `lowwatt check` says."""


def dry_run(
    graph: Graph, scheme: str | Path | Scheme, formats: Sequence[str] = (), machine: str = DEFAULT_TARGET
) -> list[str]:
    """Quantize a float graph on random images and write the target's files into a temporary folder; a line a file.

    `formats` are those of the scheme where empty. Raises ToolError with the reason for which one could not be
    written or not be opened again. The numbers are not proved, nor are they the network's: calibration follows.

    >>> # dry_run(graph, "tensorrt")  # before hours of reconstruction
    """
    from lowwatt.quant import quantize

    rules = load_scheme(scheme)
    wanted = [name for name in rules.exports if name not in UNTRIED] if not formats else list(formats)
    started = time.perf_counter()
    quantized = quantize(graph, _made_up(graph), scheme=rules, calibration="minmax").quantized
    lines = [f"quantized for {rules.name} with made-up ranges: {_since(started)}"]
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            lines.append(_write(quantized, Path(folder) / f"dry{FORMATS[name][0]}", name, machine))
    return lines


def _write(graph: Graph, out: Path, format: str, machine: str) -> str:
    started = time.perf_counter()
    try:
        export_graph(graph, out, format, samples=(), machine=machine)
    except ToolError as error:
        raise ToolError(
            f"the network cannot be exported as {format}: {error.what}",
            where=error.where,
            why=error.why,
            hint=error.hint,
        ) from None
    return f"{format}: written and opened again, {out.stat().st_size / 1e6:.1f} MB, {_since(started)}"


def _made_up(graph: Graph) -> list[Array]:
    """Random images, 0…255, for the one input."""
    generator = np.random.default_rng(0)
    shape = graph.tensor(graph.inputs[0]).shape
    return [generator.integers(0, 256, shape).astype(np.float32) for _ in range(IMAGES)]


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"
