"""check --rewrite: change what leaves the accelerator into what it takes, and prove the exact changes on the spot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.types import Array
from lowwatt.verbs.compile import Standing, open_network, standing
from lowwatt.verbs.export_source import Inputs, random_inputs

if TYPE_CHECKING:
    from lowwatt.compiler.rewrites import Rewriting
    from lowwatt.compiler.rules import Verdict
    from lowwatt.targets import Target

TOLERANCE = 1e-4
"""Largest difference of a float output, as a share of its largest value: sums in another order differ by less."""


@dataclass(frozen=True, slots=True)
class RewriteReport:
    """What was rewritten and what it brought.

    `rewrites`: {name, what, keeps, nodes}, one a rewrite that was applied; `misses`: {name, op, reason, nodes};
    `proof`: what was compared; `file`: what was written, "" for nothing.
    """

    rewrites: list[dict[str, Any]]
    misses: list[dict[str, Any]]
    before: Standing
    after: Standing
    proof: list[str]
    verdicts: list[Verdict]
    file: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything as json-able values."""
        return asdict(self)


def rewrite_file(
    file: Path, target: str | None, overrides: Sequence[str], out: Path | None, inexact: bool
) -> RewriteReport:
    """Rewrite a network for a machine and write it to `out` (.lwg). ToolError where the proof fails."""
    from lowwatt.ir import store
    from lowwatt.targets import load_target

    if out is not None and file.suffix in (".yaml", ".yml"):
        raise ToolError("a recipe has no trained weights to rewrite", where=str(file), hint="give the trained model")
    if out is not None and out.suffix != ".lwg":
        raise ToolError("a rewritten graph is written as .lwg", where=str(out), hint="lowwatt export makes other files")
    graph, settings = open_network(file, overrides)
    graph, report = rewrite_graph(
        graph, load_target(target or settings.target), inexact, "" if out is None else str(out)
    )
    if out is not None:
        store.save(graph, out)
    return report


def rewrite_graph(graph: Graph, target: Target, inexact: bool, file: str = "") -> tuple[Graph, RewriteReport]:
    """Rewrite a graph: exact rewrites first, proved; then, where asked for, the inexact ones."""
    from lowwatt.compiler.rewrites import EXACT, INEXACT, rewrite
    from lowwatt.compiler.rules import check

    steps, proof = [rewrite(graph, target)], []
    if steps[0].changes:
        proof.append(prove(graph, steps[0].graph))
    if inexact:
        steps.append(rewrite(steps[0].graph, target, (*INEXACT, *EXACT)))
        if steps[1].changes:
            proof.append(_distance(steps[0].graph, steps[1].graph))
    after = steps[-1].graph
    report = RewriteReport(
        _applied(steps),
        _missed(steps[-1]),
        standing(graph, check(graph, target)),
        standing(after, check(after, target)),
        proof,
        check(after, target),
        file,
    )
    return after, report


def prove(before: Graph, after: Graph) -> str:
    """Run both graphs on random inputs; says what was compared, ToolError where they differ."""
    samples = random_inputs(before)
    pairs = [pair for sample in samples for pair in _outputs(before, after, sample)]
    elements = sum(a.size for _, a, _ in pairs)
    if before.has_integers:
        for name, a, b in pairs:
            _require(np.array_equal(a, b), name, f"{np.count_nonzero(a != b)} of {a.size} integers")
        return f"integer reference on {len(samples)} random inputs: {elements} output elements, 0 differ"
    worst = 0.0
    for name, a, b in pairs:
        apart = float(np.abs(a - b).max() / max(float(np.abs(a).max()), 1e-30))
        _require(apart <= TOLERANCE, name, f"by {apart:.2g} of its largest value")
        worst = max(worst, apart)
    return f"onnxruntime on {len(samples)} random inputs: {elements} output elements, apart by at most {worst:.1e}"


def _require(equal: bool, name: str, why: str) -> None:
    if not equal:
        hint = "please report this graph"
        raise ToolError("the rewritten graph gives other values", where=name, why=f"it differs: {why}", hint=hint)


def _distance(before: Graph, after: Graph) -> str:
    """Signal to noise of the outputs after inexact rewrites, without fine-tuning."""
    pairs = [pair for sample in random_inputs(before) for pair in _outputs(before, after, sample)]
    power = sum(float((a.astype(np.float64) ** 2).sum()) for _, a, _ in pairs)
    noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for _, a, b in pairs)
    decibel = math.inf if noise == 0 else 10 * math.log10(max(power, 1e-30) / noise)
    return f"inexact rewrites, before fine-tuning: outputs keep {decibel:.1f} dB on random inputs"


def _outputs(before: Graph, after: Graph, sample: Inputs) -> list[tuple[str, Array, Array]]:
    from lowwatt.backends import open_backend

    backend = "reference" if before.has_integers else "onnxruntime"
    left, right = (open_backend(backend, graph).run(sample) for graph in (before, after))
    return [(name, left[name], right[name]) for name in before.outputs]


def _applied(steps: Sequence[Rewriting]) -> list[dict[str, Any]]:
    from lowwatt.compiler.rewrites import EXACT, INEXACT

    nodes: dict[str, list[str]] = {}
    for change in [change for step in steps for change in step.changes]:
        nodes.setdefault(change.rewrite, []).append(change.node)
    known = {one.name: one for one in (*EXACT, *INEXACT)}
    return [{"name": k, "what": known[k].what, "keeps": known[k].keeps, "nodes": v} for k, v in nodes.items()]


def _missed(step: Rewriting) -> list[dict[str, Any]]:
    nodes: dict[tuple[str, str, str], list[str]] = {}
    for miss in step.misses:
        nodes.setdefault((miss.rewrite, miss.op, miss.reason), []).append(miss.node)
    return [{"name": n, "op": op, "reason": reason, "nodes": v} for (n, op, reason), v in nodes.items()]
