"""Calibration: one pass over images fills a histogram for each tensor, from which all number formats are chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops.activation import real_activation
from lowwatt.quant.equalize import BALANCED
from lowwatt.quant.executor import TorchExecutor
from lowwatt.quant.fit import Samples, fit
from lowwatt.quant.plan import Params, Plan, Slot
from lowwatt.types import Array, QuantParams

BINS = 2048
"""Bins on either side of zero. Ranges grow by powers of two, so that old bins merge without a remainder."""

CURVES = ("silu", "sigmoid", "tanh", "hard_swish", "hard_sigmoid", "relu", "relu6")
"""Activations behind which a tensor's error counts."""

EMA = 0.9
"""Weight of the past in the moving extremes."""


@dataclass(slots=True)
class Histogram:
    """Distribution of one tensor over [-2**exponent, 2**exponent), with its exact extremes and their moving average."""

    exponent: int = -20
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2 * BINS))
    low: float = math.inf
    high: float = -math.inf
    moving: tuple[float, float] | None = None

    def update(self, value: torch.Tensor) -> None:
        """Add all elements of `value`."""
        low, high = (float(x) for x in torch.aminmax(value))
        if not math.isfinite(low) or not math.isfinite(high):
            raise ToolError("calibration met a value that is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        past = self.moving or (low, high)
        self.moving = (EMA * past[0] + (1 - EMA) * low, EMA * past[1] + (1 - EMA) * high)
        self._reach(max(abs(low), abs(high)))
        edge = 2.0**self.exponent
        self.counts += torch.histc(value, 2 * BINS, -edge, edge).double().numpy()

    def _reach(self, largest: float) -> None:
        while 2.0**self.exponent < largest:
            self.counts = _halved(self.counts)
            self.exponent += 1

    def at(self, exponent: int) -> NDArray[np.float64]:
        """Counts over [-2**exponent, 2**exponent), which must not be narrower than its own range."""
        counts = self.counts
        for _ in range(exponent - self.exponent):
            counts = _halved(counts)
        return counts


def _halved(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same counts in bins twice as wide."""
    merged = np.zeros(2 * BINS)
    merged[BINS // 2 : BINS // 2 + BINS] = counts.reshape(-1, 2).sum(1)
    return merged


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """Histogram of all values of several; the moving extremes are averaged."""
    exponent = max(h.exponent for h in histograms)
    counts = np.sum([h.at(exponent) for h in histograms], 0)
    moving = np.mean([h.moving or (h.low, h.high) for h in histograms], 0)
    low, high = min(h.low for h in histograms), max(h.high for h in histograms)
    return Histogram(exponent, counts, low, high, (float(moving[0]), float(moving[1])))


def samples_of(histograms: Sequence[Histogram], curve: Callable[[Array], Array] | None = None) -> Samples:
    """Values of tensors that share one scale, each tensor counting as often as it has elements."""
    exponent = max(h.exponent for h in histograms)
    counts = np.sum([h.at(exponent) for h in histograms], 0)
    centres = ((np.arange(2 * BINS) - BINS + 0.5) * (2.0**exponent / BINS)).astype(np.float64)
    seen = counts > 0
    moving = [h.moving or (h.low, h.high) for h in histograms]
    return Samples(
        centres[None, seen],
        counts[None, seen],
        np.array([min(h.low for h in histograms)]),
        np.array([max(h.high for h in histograms)]),
        (np.array([min(m[0] for m in moving)]), np.array([max(m[1] for m in moving)])),
        curve or _straight,
    )


def collect(
    graph: Graph, batches: Iterable[Array], progress: Callable[[int], None] | None = None
) -> dict[str, Histogram]:
    """Histogram of every input and node output over `batches` (float32 NHWC arrays), in one pass."""
    executor = TorchExecutor(graph)
    table: dict[str, Histogram] = {name: Histogram() for name in [*graph.inputs, *(n.name for n in graph.nodes)]}
    seen = 0
    with torch.inference_mode():
        for batch in batches:
            executor({graph.inputs[0]: torch.from_numpy(batch)}, lambda name, value: table[name].update(value))
            seen += len(batch)
            if progress is not None:
                progress(seen)
    if not seen:
        raise ToolError("calibration needs at least one image", hint="check the data set with `lowwatt data check`")
    return table


def calibrate(graph: Graph, plan: Plan, histograms: Mapping[str, Histogram], method: str) -> dict[str, QuantParams]:
    """Number format of every slot. Inputs of the graph are not clipped: pixels fill their range."""
    params: dict[str, QuantParams] = {}
    makers = graph.producers()
    for slots in plan.groups().values():
        quant = _fixed(makers, plan, slots) or _fitted(graph, slots, histograms, method)
        params.update({slot.name: quant for slot in slots})
    for slot in (*plan.of_kind("weights"), *plan.of_kind("constant")):
        params[slot.name] = fit_constant(graph, slot, method)
    return params | biases(graph, plan, params, method)


def _fitted(graph: Graph, slots: Sequence[Slot], histograms: Mapping[str, Histogram], method: str) -> QuantParams:
    """The format of tensors that share one, from what they held."""
    chosen = "minmax" if any(slot.name in graph.inputs for slot in slots) else method
    curve = _curve(graph, slots[0].name) if len(slots) == 1 else None
    return fit(samples_of([histograms[slot.name] for slot in slots], curve), slots[0].format, chosen)


def _fixed(makers: Mapping[str, Node], plan: Plan, slots: Sequence[Slot]) -> QuantParams | None:
    """The format that a target gives to all that make these tensors; None where it leaves it to calibration."""
    format = slots[0].format
    known = {plan.scheme.fixed.get(makers[slot.name].op) if slot.name in makers else None for slot in slots}
    given = known.pop() if len(known) == 1 else None
    if given is None or format.bits != 8:
        return None
    return QuantParams(*given, signed=format.signed, narrow=format.narrow, rounding=format.rounding)


def _straight(x: Array) -> Array:
    return x


def _curve(graph: Graph, name: str) -> Callable[[Array], Array] | None:
    """What the one reader of a tensor makes of its values, where it is an activation; else the values themselves."""
    readers = [node for node in graph.nodes if name in node.inputs]
    if len(readers) != 1 or name in graph.outputs:
        return None
    op = readers[0].op
    if op == "batch_norm":  # behind it a curve, flat below the range that its channels are balanced to
        return lambda x: np.maximum(x, -BALANCED)
    if op not in CURVES:
        return None
    return lambda x: real_activation(op, x)


def fit_constant(graph: Graph, slot: Slot, method: str) -> QuantParams:
    """Number format of weights, or of another constant operand."""
    data = graph.tensor(slot.name).data
    assert data is not None
    axis = slot.axis if slot.format.per_channel else None
    return fit(Samples.of_constant(data, axis), slot.format, method, axis)


def biases(graph: Graph, plan: Plan, params: Params, method: str) -> dict[str, QuantParams]:
    """Number formats of all biases that carry integers."""
    table: dict[str, QuantParams] = {}
    for node in graph.nodes:
        table.update(bias_format(graph, plan, node, params, method))
    return table


def accumulators(graph: Graph, plan: Plan, params: Params) -> dict[str, QuantParams]:
    """Number formats of the biases in 32 bits, which follow the scales of what is multiplied."""
    wide = {slot.name for slot in plan.of_kind("bias") if slot.format.bits >= 32}
    found = biases(graph, plan, params, "minmax") if wide else {}
    return {name: quant for name, quant in found.items() if name in wide}


def bias_format(graph: Graph, plan: Plan, node: Node, params: Params, method: str) -> dict[str, QuantParams]:
    """Number format of a node's bias by its name: its own fix point, or at 32 bits the step of the accumulator that it
    enters; nothing where there is none.
    """
    slot = plan.slots.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if slot is None or slot.kind != "bias":
        return {}
    if slot.format.bits < 32:
        return {slot.name: fit_constant(graph, slot, method)}
    if node.inputs[0] not in params or node.inputs[1] not in params:
        return {}
    weights = params[node.inputs[1]].scale
    source = float(np.asarray(params[node.inputs[0]].scale))
    return {slot.name: _accumulator(source, weights, graph.tensor(slot.name).shape[0], slot)}


def _accumulator(source: float, weights: float | tuple[float, ...], channels: int, slot: Slot) -> QuantParams:
    """The step of a sum of products: that of the input times that of the weights, by channel."""
    rounding = slot.format.rounding
    if isinstance(weights, float):
        return QuantParams(float(np.float32(source * weights)), 0, 32, rounding=rounding)
    steps = np.repeat(np.asarray(weights), channels // len(weights)) * source
    return QuantParams(tuple(map(float, steps.astype(np.float32))), 0, 32, axis=0, rounding=rounding)
