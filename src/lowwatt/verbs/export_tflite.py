"""export: .tflite, run on LiteRT where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowwatt.backends import Backend, open_backend, status_of
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.agreement import Agreement, compare_outputs, compare_raw
from lowwatt.ir.graph import Graph
from lowwatt.verbs.export_source import Inputs, Source

TOLERANCE = 0.01
"""Share of elements that may differ by more than a step, each node given what LiteRT itself computed before it."""

FLOAT_TOLERANCE = 1e-4
"""Part of an output's greatest value by which float32 may differ."""


def tflite(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """Float or int8; ToolError where LiteRT does not give what the reference does."""
    from lowwatt.ir import tflite as files

    graph = source.graph
    notes = files.write(graph, out)
    status = status_of("litert")
    if not status.usable:
        return [*notes, f"not run on LiteRT, {status.why}: {status.how_to_install}"]
    backend = open_backend("litert", out, graph=graph)
    return [*notes, *(_integer_lines if graph.has_integers else _float_lines)(backend, graph, out, samples)]


def agreement(backend: Backend, graph: Graph, samples: Sequence[Inputs]) -> Agreement:
    """Outputs of a backend against those of the integer reference, counted in steps."""
    both = ((backend.run(sample), interpreter.run(graph, sample)) for sample in samples)
    return sum((compare_outputs(graph, found, wanted) for found, wanted in both), Agreement())


def validate_nodes(graph: Graph, samples: Sequence[Inputs], **options: bool) -> dict[str, Agreement]:
    """Each node alone, by name: the reference's value of it from what LiteRT computed for its operands. What tips in
    one place is not counted again in all that follows. `options` are the backend's; the first image of each sample.
    """
    every = graph.copy()
    every.outputs = [*graph.inputs, *(node.name for node in graph.nodes)]
    backend = open_backend("litert", every, **options)
    total = {node.name: Agreement() for node in graph.nodes}
    for sample in samples:
        first = {name: value[: graph.tensor(name).shape[0]] for name, value in sample.items()}
        values = backend.run(first)
        for node in graph.nodes:
            wanted = interpreter.evaluate(graph, node, values)
            total[node.name] += compare_raw(graph.tensor(node.name), values[node.name], wanted)
    return total


def _integer_lines(backend: Backend, graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    whole, alone = agreement(backend, graph, samples), sum(validate_nodes(graph, samples).values(), Agreement())
    if alone.share(alone.beyond) > TOLERANCE:
        raise _differs(out, f"node by node: {alone}")
    rounding = "LiteRT rounds halves to even or away from zero"
    fixed = any(t.quant is not None and t.quant.is_fixed_point for t in graph.tensors.values())
    return [
        f"LiteRT (CPU) against the integer reference: {whole}",
        f"node by node, each from LiteRT's own operands: {alone} ({rounding}{', the DPU up' if fixed else ''})",
    ]


def _float_lines(backend: Backend, graph: Graph, out: Path, samples: Sequence[Inputs]) -> list[str]:
    worst = 0.0
    for sample in samples:
        wanted, found = interpreter.run(graph, sample), backend.run(sample)
        for name in graph.outputs:
            greatest = max(float(np.abs(wanted[name]).max(initial=0)), 1e-30)
            worst = max(worst, float(np.abs(found[name] - wanted[name]).max(initial=0)) / greatest)
    line = f"differs by at most {worst:.1e} of an output's greatest value"
    if not worst <= FLOAT_TOLERANCE:
        raise _differs(out, line)
    return [f"LiteRT (CPU, float32) against the reference: {line}"]


def _differs(out: Path, why: str) -> ToolError:
    hint = "please report this graph"
    return ToolError("LiteRT differs from the reference", where=str(out), why=why, hint=hint)
