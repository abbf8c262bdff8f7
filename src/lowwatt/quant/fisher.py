"""How far each element of a block's output moves the network's outputs: BRECQ's weights of the loss, without labels.

BRECQ (arXiv 2102.05426, 3.3) takes squared gradients of the task's loss. Here the loss is a random sum of the network's
outputs, signs drawn anew for each image and element: the expected square is the diagonal of the Gauss-Newton matrix for
squared errors of all outputs, whatever they mean, so that detectors with several heads need no loss of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lowwatt.ir.graph import Graph
from lowwatt.quant.blocks import Block
from lowwatt.quant.executor import TorchExecutor

CHUNK = 32


def importance(graph: Graph, blocks: Sequence[Block], images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Squared gradients of every block output, mean over images and 1 on the whole; shape (1, H, W, C)."""
    generator = torch.Generator().manual_seed(seed)
    executor = TorchExecutor(graph, {})
    names = {name for block in blocks for name in block.outputs}
    totals: dict[str, torch.Tensor] = {}
    for chunk in images.split(CHUNK):
        values: dict[str, torch.Tensor] = {}

        def watch(name: str, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> None:
            if name in names:
                values[name] = value.requires_grad_() if value.is_leaf else value

        outputs = executor({graph.inputs[0]: chunk.clone().requires_grad_()}, watch)
        signs = [(torch.randint(0, 2, o.shape, generator=generator) * 2 - 1).float() for o in outputs.values()]
        loss = sum((o / _spread(o) * sign).sum() for o, sign in zip(outputs.values(), signs, strict=True))
        for name, grad in zip(values, torch.autograd.grad(loss, list(values.values()), allow_unused=True), strict=True):
            if grad is not None:
                square = grad.square().sum(0, keepdim=True)
                totals[name] = totals[name] + square if name in totals else square
    return {name: total / total.mean().clamp_min(1e-30) for name, total in totals.items()}


def _spread(output: torch.Tensor) -> torch.Tensor:
    """Standard deviation: outputs of different units count alike."""
    return output.detach().std().clamp_min(1e-6)
