"""export: ONNX files, float and with QDQ, and what onnxruntime and the target's own runtime make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.verbs.export_runtimes import RUNTIMES, prove_on
from lowwatt.verbs.export_source import Inputs, Source, need_quantized

TOLERANCE = 0.01
"""Share of a file's elements that may differ, each node given what the runtime itself computed before it: float32 tips
values that lie beside a rounding boundary. None may differ by more than a step."""


def qdq(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """ONNX with QDQ: exact on onnxruntime where all is on the DPU's integers, else node by node within a step."""
    from lowwatt.ir import onnx_qdq

    graph = source.graph
    need_quantized(graph, "qdq")
    notes = onnx_qdq.write(graph, out)
    report = onnx_qdq.validate_qdq(out, graph, samples)
    lines = [f"onnxruntime, graph optimisation off, against the integer reference: {report.disabled}"]
    if report.disabled.differ:
        lines.append(_node_by_node(graph, out, samples))
    lines.append(f"optimisation on: {report.enabled} (its fusions round elsewhere)")
    tag = meta.scheme(graph)
    if tag is not None and tag.name in RUNTIMES:
        lines.append(prove_on(tag.name, RUNTIMES[tag.name], graph, out, samples))
    return [*notes, *lines]


def _node_by_node(graph: Graph, out: Path, samples: Sequence[Inputs]) -> str:
    """Whether the differences are float32's, and not the file's; ToolError where they are."""
    from lowwatt.ir.interpreter import on_integers
    from lowwatt.ir.onnx_qdq import validate_nodes

    whole = all(on_integers(graph, node) for node in graph.nodes)
    alone = validate_nodes(graph, samples)
    if whole or alone.beyond or alone.share(alone.differ) > TOLERANCE:
        raise ToolError(
            "onnxruntime differs from the integer reference",
            where=str(out),
            why=f"node by node: {alone}, graph optimisation off",
            hint="please report this graph",
        )
    return f"node by node, each from the runtime's own operands: {alone} (float32 tips values beside a boundary)"


def qdq_fast(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """ONNX with QDQ whose integers are exact with onnxruntime's graph optimisation on, but for float islands."""
    from lowwatt.ir import onnx_qdq, onnx_qdq_fast
    from lowwatt.ir.interpreter import on_integers

    graph = source.graph
    need_quantized(graph, "qdq-fast")
    notes = onnx_qdq_fast.write(graph, out)
    found = onnx_qdq.validate_qdq(out, graph, samples).enabled
    islands = sum(not on_integers(graph, node) for node in graph.nodes)
    if found.differ and (not islands or found.share(found.beyond) > TOLERANCE):
        raise ToolError(
            "onnxruntime differs from the integer reference",
            where=str(out),
            why=f"graph optimisation on: {found}",
            hint="its INT8 kernels saturate on x86 CPUs without VNNI; --format qdq is exact with optimisation off",
        )
    return [*notes, f"onnxruntime, graph optimisation on, against the integer reference: {found}"]


def onnx(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """Float ONNX."""
    from lowwatt.ir import onnx_writer

    graph = source.graph
    if graph.is_quantized:
        raise ToolError("the graph is quantized", where=graph.name, hint="--format qdq writes it with its integers")
    onnx_writer.write(graph, out)
    return ["float ONNX, checked by onnx.checker"]
