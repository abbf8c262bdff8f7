"""Run a Graph on torch: float, fake-quantized where its tensors carry quantization, or with quantizers of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

import numpy as np
import torch

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import dpu_average_factor
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops import spec
from lowwatt.types import Array, QuantParams

Observer = Callable[[str, torch.Tensor], None]
Quantizer = Callable[[torch.Tensor], torch.Tensor]
"""Real values → the real values that integers can stand for."""


class TorchExecutor:
    """A Graph on torch, NHWC in and out.

    A float graph gives the float network. A quantized graph gives its fake-quantized twin: constants are their
    integers times the scale, and every tensor that carries `quant` is rounded and saturated.

    `quantizers`, by tensor name, take the place of the graph's own formats, for constants too; `constants` replaces
    constants by other tensors, parameters that learn for example.

    >>> # outputs = TorchExecutor(graph)({"images": torch.zeros(1, 320, 320, 1)})
    """

    def __init__(
        self,
        graph: Graph,
        quantizers: Mapping[str, Quantizer] | None = None,
        constants: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.graph = graph
        self.quantizers = dict(_own_quantizers(graph) if quantizers is None else quantizers)
        given = constants or {}
        self.constants = {t.name: given.get(t.name, torch.from_numpy(_real(t))) for t in graph.constants()}
        self.fixed = {name for name, tensor in graph.tensors.items() if tensor.quant and tensor.quant.is_fixed_point}
        """Tensors with a fix point: the DPU's average differs from the mean there."""
        self._last_use = {name: node.name for node in graph.nodes for name in node.inputs}

    def __call__(self, inputs: Mapping[str, torch.Tensor], observe: Observer | None = None) -> dict[str, torch.Tensor]:
        """Outputs by name; `observe(name, value)` sees every input and node output once."""
        values: dict[str, torch.Tensor] = {}
        for name in self.graph.inputs:
            values[name] = self._finish(name, inputs[name], observe)
        self.run(self.graph.nodes, values, self.graph.outputs, observe)
        return {name: self._operand(name, values) for name in self.graph.outputs}

    def run(
        self,
        nodes: Sequence[Node],
        values: MutableMapping[str, torch.Tensor],
        keep: Iterable[str],
        observe: Observer | None = None,
    ) -> None:
        """Run some of the nodes on `values`, which hold what they read and then what they make; what no later node
        reads goes, but for `keep`.
        """
        kept = set(keep)
        for node in nodes:
            values[node.name] = self.finished(node, values, observe)
            for name in set(node.inputs):
                if self._last_use[name] == node.name and name not in kept:
                    values.pop(name, None)

    def finished(
        self, node: Node, values: MutableMapping[str, torch.Tensor], observe: Observer | None = None
    ) -> torch.Tensor:
        """A node's output, quantized."""
        return self._finish(node.name, self.value(node, values), observe)

    def _operand(self, name: str, values: MutableMapping[str, torch.Tensor]) -> torch.Tensor:
        """A value, or a constant; constants are quantized on their way in."""
        if name in values:
            return values[name]
        quantizer = self.quantizers.get(name)
        constant = self.constants[name]
        return constant if quantizer is None else quantizer(constant)

    def value(self, node: Node, values: MutableMapping[str, torch.Tensor]) -> torch.Tensor:
        """What a node computes, before its output is quantized."""
        rule = spec(node.op).torch
        if rule is None:
            raise ToolError(f"{node.op} cannot run on torch", where=node.name)
        value: torch.Tensor = rule(torch, node, [self._operand(name, values) for name in node.inputs])
        if node.op == "avg_pool" and node.name in self.fixed:
            factor, shift = dpu_average_factor(node.attrs["kernel"])
            value = value * (float(np.prod(node.attrs["kernel"])) * factor / 2**shift)
        return value

    def _finish(self, name: str, value: torch.Tensor, observe: Observer | None) -> torch.Tensor:
        quantizer = self.quantizers.get(name)
        if quantizer is not None:
            value = quantizer(value)
        if observe is not None:
            observe(name, value)
        return value


def outputs_of(executor: TorchExecutor, batches: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs by name for all images of some batches (NHWC), without gradients."""
    with torch.no_grad():
        parts = [executor({executor.graph.inputs[0]: batch}) for batch in batches]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def fake_quantize(value: torch.Tensor, quant: QuantParams) -> torch.Tensor:
    """Round as the format says, saturate, and return to real values. No gradient: see `lowwatt.quant.quantizers`."""
    scale = quant.scale if isinstance(quant.scale, float) else torch.from_numpy(quant.step(value.ndim)).to(value)
    steps = value / scale
    zero = torch.from_numpy(quant.zeros(value.ndim)).to(value) if quant.zero_points else quant.zero_point
    integers = ROUNDINGS[quant.rounding](steps) + zero
    return (integers.clamp(quant.qmin, quant.qmax) - zero) * scale


ROUNDINGS: dict[str, Quantizer] = {
    "DPU_ROUND": lambda x: torch.floor(x + 0.5),
    "STD_ROUND": lambda x: torch.copysign(torch.floor(x.abs() + 0.5), x),
    "PY3_ROUND": torch.round,
}
"""`lowwatt.ir.arithmetic.ROUNDINGS` on torch."""


def quantizers_of(params: Mapping[str, QuantParams]) -> dict[str, Quantizer]:
    """Plain quantizers of fixed formats."""

    def one(quant: QuantParams) -> Quantizer:
        return lambda value: fake_quantize(value, quant)

    return {name: one(quant) for name, quant in params.items()}


def _own_quantizers(graph: Graph) -> dict[str, Quantizer]:
    """Those of the tensors that carry formats; constants are on their grid already."""
    own = {t.name: t.quant for t in graph.tensors.values() if t.quant is not None and not t.is_constant}
    return quantizers_of(own)


def _real(tensor: Tensor) -> Array:
    data = tensor.data
    assert data is not None
    return tensor.quant.dequantize(data) if tensor.quant is not None else np.ascontiguousarray(data)
