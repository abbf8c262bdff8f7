"""export: write the vendor's file or an ONNX, and prove on the spot that it is the same network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array

ISLAND_TOLERANCE = 0.01
"""Share of output elements that may differ where the graph holds float islands: a step there spreads behind it."""

Inputs = Mapping[str, Array]
SAMPLES = 2
"""Random inputs on which an export is proved; the numerics are exact, so that one element off would show."""


def export_file(file: Path, out: Path, format: str) -> dict[str, Any]:
    """Write `file` in `format` to `out`; {format, file, bytes, proof: lines}. ToolError where the proof fails."""
    from lowwatt.loading import load_graph

    if format not in FORMATS:
        raise ToolError(f"unknown format {format}", hint=did_you_mean(format, FORMATS))
    return export_graph(load_graph(file), out, format)


def export_graph(graph: Graph, out: Path, format: str, samples: Sequence[Inputs] | None = None) -> dict[str, Any]:
    """As `export_file`, from a graph in memory; `samples` are inputs by name (NHWC float32), random ones where None."""
    inputs = samples if samples is not None else random_inputs(graph)
    proof = FORMATS[format][1](graph, out, inputs)
    return {"format": format, "file": str(out), "bytes": out.stat().st_size, "proof": proof}


def random_inputs(graph: Graph) -> Sequence[Inputs]:
    """Seeded inputs over the whole range of each input: its integers where it is quantized, else 0…255."""
    generator = np.random.default_rng(0)
    return [{name: _noise(graph.tensor(name), generator) for name in graph.inputs} for _ in range(SAMPLES)]


def _noise(tensor: Tensor, generator: np.random.Generator) -> Array:
    low, high = (0, 255) if tensor.quant is None else (tensor.quant.qmin, tensor.quant.qmax)
    values = generator.integers(low, high, tensor.shape, endpoint=True).astype(np.float32)
    return values if tensor.quant is None else tensor.quant.dequantize(values)


def _xmodel(graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import xmodel
    from lowwatt.ir.interpreter import run

    _need_quantized(graph, "xmodel")
    xmodel.write(graph, out)
    again = xmodel.read(out)
    elements = 0
    for sample in samples:
        renamed = {new: sample[old] for old, new in zip(graph.inputs, again.inputs, strict=True)}
        before, after = run(graph, sample), run(again, renamed)
        for (name, left), right in zip(before.items(), after.values(), strict=True):
            elements += left.size
            if not np.array_equal(left, right):
                raise ToolError("the xmodel differs from the graph", where=name, hint="please report this graph")
    return [
        f"read back and run on the integer reference: {elements} output elements, 0 differ",
        f"compile it with: vai_c_xir -x {out} -a arch.json -o compiled -n {graph.name}",
    ]


def _qdq(graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import onnx_qdq
    from lowwatt.ir.interpreter import on_integers

    _need_quantized(graph, "qdq")
    onnx_qdq.write(graph, out)
    report = onnx_qdq.validate_qdq(out, graph, samples)
    islands = [node.name for node in graph.nodes if not on_integers(graph, node)]
    off = report.differ_disabled / max(1, report.elements)
    if off > (ISLAND_TOLERANCE if islands else 0):
        raise ToolError(
            "onnxruntime differs from the integer reference",
            where=str(out),
            why=f"{report.differ_disabled} of {report.elements} output elements, graph optimisation off",
            hint="please report this graph",
        )
    share = report.differ_enabled / max(1, report.elements)
    allowed = f" (float32 of {len(islands)} float operators tips values beside a boundary)" if islands else ""
    return [
        f"onnxruntime, graph optimisation off, against the integer reference: {report.elements} elements, "
        f"{report.differ_disabled} differ{allowed}",
        f"optimisation on: {share:.2%} differ, by at most {report.max_abs_enabled} steps (its fusions round elsewhere)",
    ]


def _onnx(graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import onnx_writer

    if graph.is_quantized:
        raise ToolError("the graph is quantized", where=graph.name, hint="--format qdq writes it with its integers")
    onnx_writer.write(graph, out)
    return ["float ONNX, checked by onnx.checker"]


def _need_quantized(graph: Graph, format: str) -> None:
    if not graph.is_quantized:
        raise ToolError(f"{format} needs a quantized graph", where=graph.name, hint="run `lowwatt quantize` first")


FORMATS: dict[str, tuple[str, Callable[[Graph, Path, Sequence[Inputs]], list[str]]]] = {
    "xmodel": ("_int.xmodel", _xmodel),
    "qdq": ("_qdq.onnx", _qdq),
    "onnx": (".onnx", _onnx),
}
"""Format → suffix of the file, and the function that writes and proves it."""
