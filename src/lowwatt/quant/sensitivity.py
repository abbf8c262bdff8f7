"""Which layer costs how much: each alone in integers, each alone back in float, and the errors as they accumulate.

Two views, as PPQ has them: a layer alone shows where the number format is too coarse; accumulated errors show where the
network cannot bear it. The third, what one layer at 16 bits would gain, says what to change.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lowwatt.ir import meta
from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.analysis import cosine, output_snr, snr_db
from lowwatt.quant.executor import Quantizer, TorchExecutor, quantizers_of
from lowwatt.quant.plan import Params, Plan
from lowwatt.types import Array, QuantParams

if TYPE_CHECKING:
    from lowwatt.quant.ptq import QuantReport

Tensors = Mapping[str, torch.Tensor]
BRANCHES = ("class", "box", "objectness")


@dataclass(frozen=True, slots=True)
class LayerError:
    """One node of a quantized network; dB are signal to noise, higher is better.

    `alone`: outputs of the network with this node alone in integers, by branch. `accumulated`, `cosine`: the node's own
    output with everything in integers. `gain`: what the outputs gain, in dB, with this node alone at 16 bits; measured
    on the network as calibrated, since corrections of later biases belong to the errors that would go.
    """

    node: str
    op: str
    bits: int
    alone: dict[str, float]
    accumulated: float
    cosine: float
    gain: float


def layer_errors(
    report: QuantReport, images: Array, progress: Callable[[float], None] = lambda share: None
) -> list[LayerError]:
    """A row for each node that carries integers of its own, in the network's order. `images` is one batch, NHWC."""
    floating, changed, plan, params = report.floating, report.changed, report.plan, report.params
    quantizers = quantizers_of(params)
    real = Replay(floating, {}, images)
    rounded = Replay(changed, quantizers, images)
    calibrated = Replay(floating, quantizers, images)
    before = _mean(output_snr(real.outputs, calibrated.outputs))
    rows = []
    owned = slots_by_node(floating, plan, params)
    for index, node in enumerate(floating.nodes):
        names = owned.get(node.name, ())
        if names:
            alone = output_snr(real.outputs, real.with_quantizers({n: quantizers[n] for n in names}))
            finer = quantizers_of({n: widened(params[n]) for n in names})
            gain = _mean(output_snr(real.outputs, calibrated.with_quantizers(finer))) - before
            own = (real.values[node.name].numpy(), rounded.values[node.name].numpy())
            bits = min(params[n].bits for n in names)
            by_branch = branches(floating, alone)
            rows.append(LayerError(node.name, node.op, bits, by_branch, min(100.0, snr_db(*own)), cosine(*own), gain))
        progress((index + 1) / len(floating.nodes))
    return rows


def slots_by_node(graph: Graph, plan: Plan, params: Params) -> dict[str, list[str]]:
    """Tensors with integers that belong to each node: its constants, and what it makes."""
    table: dict[str, list[str]] = {}
    for node in graph.nodes:
        own = [name for name in node.inputs if graph.tensor(name).is_constant] + [node.name]
        found = [name for name in own if name in plan.slots and name in params]
        if found:
            table[node.name] = found
    return table


def widened(quant: QuantParams, bits: int = 16) -> QuantParams:
    """The format at more bits over the same range."""
    if quant.bits >= bits:
        return quant
    factor = 2.0 ** (quant.bits - bits)
    scale = tuple(s * factor for s in quant.scale) if isinstance(quant.scale, tuple) else quant.scale * factor
    return replace(quant, scale=scale, bits=bits, zero_point=quant.zero_point << (bits - quant.bits))


def branches(graph: Graph, snr: Mapping[str, float]) -> dict[str, float]:
    """Worst dB of each branch of a detector (class, box, objectness), or of each output."""
    if "head" not in graph.meta:
        return dict(snr)
    table: dict[str, float] = {}
    for triple in meta.head(graph).outputs:
        for branch, name in zip(BRANCHES, triple, strict=False):
            table[branch] = min(table.get(branch, 100.0), snr[name])
    return table


def _mean(snr: Mapping[str, float]) -> float:
    return float(np.mean(list(snr.values())))


class Replay:
    """A network run once on some images, every value kept; changes of quantizers recompute only what follows them."""

    def __init__(self, graph: Graph, quantizers: Mapping[str, Quantizer], images: Array) -> None:
        self.graph = graph
        self._executor = TorchExecutor(graph, quantizers)
        self._images = torch.from_numpy(np.ascontiguousarray(images, np.float32))
        self.values: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            self._executor({graph.inputs[0]: self._images}, self.values.__setitem__)

    @property
    def outputs(self) -> Tensors:
        """The network's outputs."""
        return {name: self.values[name] for name in self.graph.outputs}

    def with_quantizers(self, changes: Mapping[str, Quantizer]) -> Tensors:
        """The outputs with other quantizers on some tensors."""
        fresh: dict[str, torch.Tensor] = {}
        values = ChainMap(fresh, self.values)
        kept = self._executor.quantizers
        self._executor.quantizers = {**kept, **changes}
        try:
            with torch.inference_mode():
                for node in self.graph.nodes:
                    if self._touched(node, changes, fresh):
                        fresh[node.name] = self._executor.finished(node, values)
        finally:
            self._executor.quantizers = kept
        return {name: values[name] for name in self.graph.outputs}

    def _touched(self, node: Node, changes: Mapping[str, Quantizer], fresh: Tensors) -> bool:
        """Whether a node's value may differ: its own quantizer, a constant's, or a value before it changed."""
        constant = any(name in changes and self.graph.tensor(name).is_constant for name in node.inputs)
        return constant or node.name in changes or any(name in fresh for name in node.inputs)
