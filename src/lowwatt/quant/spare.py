"""Layers to leave in float: those whose integers cost the outputs most for the work that they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.quant.analysis import output_noise
from lowwatt.quant.executor import quantizers_of
from lowwatt.quant.plan import WEIGHTED, Params, Plan
from lowwatt.quant.sensitivity import Replay
from lowwatt.types import Array


def worst_layers(
    graph: Graph,
    plan: Plan,
    params: Params,
    batches: Sequence[Array],
    share: float,
    fits: Callable[[Sequence[str]], bool] = lambda names: True,
) -> list[str]:
    """Layers with weights, worst first, that together are at most `share` of the multiply-accumulates, and that `fits`.

    A layer's cost is the noise at the outputs, as a share of their signal, with it alone on integers: its weights, what
    it reads and what it makes. Noises add up to first order, so the best choice takes most noise for least work.
    """
    layers = [node for node in graph.nodes if node.op in WEIGHTED and node.inputs[1] in plan.slots]
    work = {node.name: _macs(graph, node) for node in layers}
    noise = _noise(graph, plan, params, layers, np.concatenate(list(batches)))
    left = share * sum(work.values())
    chosen: list[str] = []
    for name in sorted(noise, key=lambda name: -noise[name] / max(work[name], 1)):
        if work[name] <= left and fits([*chosen, name]):
            left -= work[name]
            chosen.append(name)
    return chosen


def _macs(graph: Graph, node: Node) -> int:
    shapes = [graph.tensor(name).shape for name in node.inputs]
    return spec(node.op).macs(node, shapes, graph.tensor(node.name).shape)


def _noise(graph: Graph, plan: Plan, params: Params, layers: Sequence[Node], images: Array) -> dict[str, float]:
    real, quantizers = Replay(graph, {}, images), quantizers_of(params)
    table = {}
    for node in layers:
        own = {name: quantizers[name] for name in (*node.inputs, node.name) if name in plan.slots and name in params}
        table[node.name] = output_noise(real.outputs, real.with_quantizers(own))
    return table
