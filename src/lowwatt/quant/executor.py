"""Run a Graph on torch: float, or fake-quantized where its tensors carry quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import dpu_average_factor
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops import spec
from lowwatt.types import Array, QuantParams

Observer = Callable[[str, torch.Tensor], None]


class TorchExecutor:
    """A Graph on torch, NHWC in and out.

    A float graph gives the float network. A quantized graph gives its fake-quantized twin: constants are their
    integers times the scale, and every tensor that carries `quant` is rounded (half up) and saturated.

    >>> # outputs = TorchExecutor(graph)({"images": torch.zeros(1, 320, 320, 1)})
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._constants = {t.name: torch.from_numpy(_real(t)) for t in graph.constants()}
        self._last_use = {name: node.name for node in graph.nodes for name in node.inputs}

    def __call__(self, inputs: Mapping[str, torch.Tensor], observe: Observer | None = None) -> dict[str, torch.Tensor]:
        """Outputs by name; `observe(name, value)` sees every input and node output once."""
        values = dict(self._constants)
        for name in self.graph.inputs:
            values[name] = self._finish(name, inputs[name], observe)
        for node in self.graph.nodes:
            values[node.name] = self._finish(node.name, self._compute(node, values), observe)
            for name in set(node.inputs):
                if self._last_use[name] == node.name and name not in self.graph.outputs:
                    del values[name]
        return {name: values[name] for name in self.graph.outputs}

    def _compute(self, node: Node, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        rule = spec(node.op).torch
        if rule is None:
            raise ToolError(f"{node.op} cannot run on torch", where=node.name)
        value: torch.Tensor = rule(torch, node, [values[i] for i in node.inputs])
        if node.op == "avg_pool" and self.graph.tensor(node.name).quant is not None:
            factor, shift = dpu_average_factor(node.attrs["kernel"])
            value = value * (float(np.prod(node.attrs["kernel"])) * factor / 2**shift)
        return value

    def _finish(self, name: str, value: torch.Tensor, observe: Observer | None) -> torch.Tensor:
        quant = self.graph.tensor(name).quant
        if quant is not None:
            value = fake_quantize(value, quant)
        if observe is not None:
            observe(name, value)
        return value


def fake_quantize(value: torch.Tensor, quant: QuantParams) -> torch.Tensor:
    """Round half up (the DPU's rule, docs/dpu.md 3.1), saturate, and return to real values."""
    integers = torch.floor(value / quant.scale + 0.5) + quant.zero_point
    return (integers.clamp(quant.qmin, quant.qmax) - quant.zero_point) * quant.scale


def _real(tensor: Tensor) -> Array:
    data = tensor.data
    assert data is not None
    return tensor.quant.dequantize(data) if tensor.quant is not None else np.ascontiguousarray(data)
