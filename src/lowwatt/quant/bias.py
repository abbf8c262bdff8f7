"""Bias correction: rounded weights and inputs shift the mean of a layer's sums; the bias takes the shift back.

Nagel et al., arXiv 1906.04721, 4.2, the empirical form: layer after layer in the order of the network, each measured
behind layers that are corrected already, on calibration images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.calibration import bias_format
from lowwatt.quant.executor import Quantizer, TorchExecutor, quantizers_of
from lowwatt.quant.plan import WEIGHTED, Params, Plan
from lowwatt.types import Array, QuantParams

Values = list[dict[str, torch.Tensor]]
"""Live tensors of each batch."""


def correct_biases(
    floating: Graph, graph: Graph, plan: Plan, params: Params, batches: Sequence[Array], method: str
) -> tuple[Graph, dict[str, QuantParams]]:
    """Copy of `graph` whose biases, rounded, give the means of `floating`; and all formats, with the biases' own.

    Both are the same prepared network, `graph` perhaps with other constants (weights that are reconstructed). Layers
    without a bias stay as they are: a bias would be a new tensor for the target.
    """
    result, formats = graph.copy(), dict(params)
    walk = _Walk(floating, result, quantizers_of(params), batches)
    with torch.inference_mode():
        for node in result.nodes:
            if node.op in WEIGHTED and len(node.inputs) == 3 and node.inputs[1] in params:
                name = node.inputs[2]
                result.set_constant(name, np.asarray(result.tensor(name).data, np.float64) + walk.mean_shift(node))
                formats.update(bias_format(result, plan, node, formats, method))
                walk.rounded.constants[name] = torch.from_numpy(result.tensor(name).data)
                walk.rounded.quantizers.update(quantizers_of({name: formats[name]} if name in formats else {}))
            walk.step(node)
    return result, formats


class _Walk:
    """The float network and the rounded one side by side, node by node over all batches."""

    def __init__(
        self, floating: Graph, graph: Graph, quantizers: dict[str, Quantizer], batches: Sequence[Array]
    ) -> None:
        self.exact = TorchExecutor(floating, {})
        self.rounded = TorchExecutor(graph, quantizers)
        self.outputs = graph.outputs
        name = graph.inputs[0]
        images = [torch.from_numpy(batch) for batch in batches]
        first = quantizers.get(name, _same)
        self.real: Values = [{name: image} for image in images]
        self.quantized: Values = [{name: first(image)} for image in images]

    def step(self, node: Node) -> None:
        """Run the node everywhere."""
        for executor, batches in ((self.exact, self.real), (self.rounded, self.quantized)):
            for values in batches:
                executor.run([node], values, self.outputs)

    def mean_shift(self, node: Node) -> Array:
        """Mean of float minus rounded sums, before the activation, by output channel."""
        bare = Node(node.name, node.op, node.inputs, {**node.attrs, "activation": "none"})
        total, count = 0.0, 0
        for real, quantized in zip(self.real, self.quantized, strict=True):
            apart = self.exact.value(bare, real) - self.rounded.value(bare, quantized)
            total = total + apart.double().flatten(0, -2).sum(0)
            count += apart.numel() // apart.shape[-1]
        mean: Array = (total / count).numpy()  # type: ignore[attr-defined]
        return mean


def _same(value: torch.Tensor) -> torch.Tensor:
    return value
