"""The torch executor with the face of a backend, so that an engine can run float and fake-quantized graphs on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array, QuantParams


class TorchBackend:
    """Inputs NHWC, float or raw integers; outputs raw integers where the graph is quantized, else float32."""

    name = "torch"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs, self.outputs = tuple(graph.inputs), tuple(graph.outputs)
        self.quants: dict[str, QuantParams | None] = {
            name: graph.tensor(name).quant for name in (*self.inputs, *self.outputs)
        }
        self._executor = TorchExecutor(graph)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        real = {name: torch.from_numpy(self._real(name, value)) for name, value in inputs.items()}
        with torch.inference_mode():
            found = self._executor(real)
        return {name: self._raw(name, value.numpy()) for name, value in found.items()}

    def _real(self, name: str, value: Array) -> Array:
        quant = self.quants[name]
        if quant is not None and np.issubdtype(value.dtype, np.integer):
            return quant.dequantize(value)
        return np.ascontiguousarray(value, np.float32)

    def _raw(self, name: str, value: Array) -> Array:
        quant = self.quants[name]
        return value if quant is None else quantize(value, quant)
