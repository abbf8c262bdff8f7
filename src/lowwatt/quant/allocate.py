"""Mixed precision: bits for each layer's weights and what it reads, under a budget of size or of accuracy.

The noise that a layer adds at some number of bits is measured with that layer alone rounded; noises of different layers
add up (to first order, as HAWQ-V2, arXiv 1911.03852, and many since assume). So the best plan under a budget takes,
step by step, the bits from the layer that loses least for what it saves.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.analysis import output_noise
from lowwatt.quant.calibration import Histogram, fit_constant, samples_of
from lowwatt.quant.executor import quantizers_of
from lowwatt.quant.fit import fit
from lowwatt.quant.plan import WEIGHTED, Plan, Slot
from lowwatt.quant.sensitivity import Replay
from lowwatt.types import Array, QuantParams

CHOICES = (8, 6, 5, 4, 3, 2)
"""Bits that are tried, from the widest."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bits of each layer's weights, their size in bytes, and the noise expected at the outputs (share of signal)."""

    bits: dict[str, int]
    size: float
    noise: float

    @property
    def snr_db(self) -> float:
        """Expected signal to noise of the outputs."""
        return -10 * float(np.log10(max(self.noise, 1e-10)))


def layer_noise(
    graph: Graph, plan: Plan, histograms: Mapping[str, Histogram], images: Array, method: str = "mse"
) -> dict[str, dict[int, float]]:
    """Noise at the outputs, as a share of their signal, with one layer alone at so many bits: layer → bits → noise."""
    real = Replay(graph, {}, images)
    table: dict[str, dict[int, float]] = {}
    for node in graph.nodes:
        if node.op not in WEIGHTED or node.inputs[1] not in plan.slots:
            continue
        slots = [plan.slots[name] for name in node.inputs[:2] if name in plan.slots]
        table[node.name] = {}
        for bits in _choices(plan, node):
            params = {slot.name: _fitted(graph, slot, bits, histograms, method) for slot in slots}
            table[node.name][bits] = output_noise(real.outputs, real.with_quantizers(quantizers_of(params)))
    return table


def _choices(plan: Plan, node: Node) -> list[int]:
    """Bits from the plan's own downwards; layers whose bits are fixed (first and last) keep them."""
    slot = plan.slots[node.inputs[1]]
    if plan.scheme.ends is not None and slot.format.bits == plan.scheme.ends != plan.scheme.weights.bits:
        return [slot.format.bits]
    return [bits for bits in CHOICES if bits <= slot.format.bits]


def _fitted(graph: Graph, slot: Slot, bits: int, histograms: Mapping[str, Histogram], method: str) -> QuantParams:
    format = slot.format.model_copy(update={"bits": bits})
    if graph.tensor(slot.name).is_constant:
        return fit_constant(graph, replace(slot, format=format), method)
    return fit(samples_of([histograms[slot.name]]), format, method)


def weight_bytes(graph: Graph, plan: Plan) -> float:
    """Bytes of all weights that carry integers, at the plan's bits."""
    slots = plan.of_kind("weights")
    return sum(float(np.prod(graph.tensor(slot.name).shape)) * slot.format.bits / 8 for slot in slots)


def allocate(
    graph: Graph, noise: Mapping[str, Mapping[int, float]], *, size: float | None = None, snr_db: float | None = None
) -> Allocation:
    """The least noise within `size` bytes of weights, or the smallest size that keeps `snr_db` at the outputs.

    ToolError where even the fewest bits are too large, or 8 bits too coarse.
    """
    if (size is None) == (snr_db is None):
        raise ToolError("give a size or a signal-to-noise ratio to keep, and one of them only")
    weights = {name: int(np.prod(graph.tensor(graph.node(name).inputs[1]).shape)) for name in noise}
    bits = {name: max(choices) for name, choices in noise.items()}
    best = _state(bits, weights, noise)
    steps = [_next(name, bits[name], weights, noise) for name in noise if len(noise[name]) > 1]
    heapq.heapify(steps)
    while steps and (size is None or best.size > size):
        _, name, fewer = heapq.heappop(steps)
        bits[name] = fewer
        found = _state(bits, weights, noise)
        if snr_db is not None and found.snr_db < snr_db:
            break
        best = replace(found, bits=dict(bits))
        if fewer != min(noise[name]):
            heapq.heappush(steps, _next(name, fewer, weights, noise))
    if size is not None and best.size > size:
        raise ToolError("the weights do not fit", why=f"{best.size:.0f} bytes at {CHOICES[-1]} bits, {size:.0f} wanted")
    if snr_db is not None and best.snr_db < snr_db:
        raise ToolError("8 bits are too coarse", why=f"{best.snr_db:.1f} dB, {snr_db:.1f} wanted")
    return best


def _next(
    name: str, bits: int, weights: Mapping[str, int], noise: Mapping[str, Mapping[int, float]]
) -> tuple[float, str, int]:
    """The cheapest step down of a layer: (noise gained for each byte saved, layer, bits)."""

    def price(fewer: int) -> float:
        return (noise[name][fewer] - noise[name][bits]) / (weights[name] * (bits - fewer) / 8)

    fewer = min((b for b in noise[name] if b < bits), key=price)
    return price(fewer), name, fewer


def _state(bits: Mapping[str, int], weights: Mapping[str, int], noise: Mapping[str, Mapping[int, float]]) -> Allocation:
    size = sum(weights[name] * count / 8 for name, count in bits.items())
    return Allocation(dict(bits), size, sum(noise[name][count] for name, count in bits.items()))


def with_allocation(plan: Plan, graph: Graph, allocation: Allocation) -> Plan:
    """The plan with each layer's weights, and what it reads, at the allocated bits; a tensor that several layers read
    has the most that any of them wants.
    """
    slots = dict(plan.slots)
    wanted: dict[str, int] = {}
    for name, bits in allocation.bits.items():
        for tensor in graph.node(name).inputs[:2]:
            wanted[tensor] = max(bits, wanted.get(tensor, 0))
    for tensor, bits in wanted.items():
        if tensor in slots:
            format = slots[tensor].format.model_copy(update={"bits": bits})
            slots[tensor] = replace(slots[tensor], format=format, rule=f"{slots[tensor].rule}; {bits} bits allocated")
    return replace(plan, slots=slots)
