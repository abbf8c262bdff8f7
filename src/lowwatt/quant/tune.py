"""Tuning: all scales, channel gains and biases of a rounded network learn together, by its outputs.

Reconstruction makes each block good for itself. What the blocks then lose together shows at the outputs only, and few
numbers can take much of it back: a scale for each tensor of activations, a gain for each output channel of weights (its
scale; the integers stay), and the biases. QFT (Finkelstein et al., arXiv 2212.03634) learns these and the weights, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lowwatt.ir.graph import Graph
from lowwatt.quant import calibration
from lowwatt.quant.activations import Activation
from lowwatt.quant.executor import TorchExecutor, outputs_of
from lowwatt.quant.output_loss import Loss, output_loss
from lowwatt.quant.plan import Params, Plan
from lowwatt.types import Array, QuantParams

ITERATIONS, BATCH, RATE = 400, 8, 1e-2
"""Steps, images of one, and the rate at the start, as a share of each number (of the root mean square of a bias)."""

Progress = Callable[[float], None]


def tunable(plan: Plan) -> bool:
    """Whether anything can learn: powers of two cannot."""
    return any(not slot.format.power_of_two for slot in plan.slots.values() if slot.kind in ("activations", "weights"))


def tune(
    base: Graph, graph: Graph, plan: Plan, params: Params, batches: Sequence[Array], tell: Progress, seed: int = 0
) -> tuple[Graph, dict[str, QuantParams]]:
    """`graph` with other biases and weights, and formats with other scales; `base` is the float network.

    `graph` is `base` with its weights on the grids of `params`. The same seed gives the same bytes.
    """
    learner = _Learner(base, graph, plan, params)
    images = torch.from_numpy(np.concatenate(list(batches)))
    real = outputs_of(TorchExecutor(base, {}), images.split(BATCH))
    loss, generator = output_loss(base), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(learner.groups(), betas=(0.9, 0.99))
    for step in range(ITERATIONS):
        for group in optimizer.param_groups:
            group["lr"] = group["start"] * (1 + math.cos(math.pi * step / ITERATIONS)) / 2
        chosen = torch.randperm(len(images), generator=generator)[:BATCH]
        optimizer.zero_grad()
        learner.loss(images[chosen], {name: value[chosen] for name, value in real.items()}, loss).backward()
        optimizer.step()
        tell((step + 1) / ITERATIONS)
    found: tuple[Graph, dict[str, QuantParams]] = learner.result()
    return found


class _Learner:
    """What learns, and the network that it is put into."""

    def __init__(self, base: Graph, graph: Graph, plan: Plan, params: Params) -> None:
        self.graph, self.plan, self.params = graph, plan, params
        self.constants = {t.name: torch.from_numpy(np.array(t.data, np.float32)) for t in graph.constants()}
        self.gains = {
            slot.name: torch.zeros(np.size(params[slot.name].scale), requires_grad=True)
            for slot in plan.of_kind("weights")
            if slot.name in params and not slot.format.power_of_two
        }
        """Logarithms of what the scales of weights are multiplied by."""
        self.biases = {name: self.constants[name].clone().requires_grad_() for name in self._bias_names()}
        self.activations = {members[0]: self._quantizer(members) for members in self._groups()}
        quantizers = {name: self.activations[members[0]] for members in self._groups() for name in members}
        self.executor = TorchExecutor(base, quantizers, self.constants)

    def _bias_names(self) -> list[str]:
        """Biases in float or in 32 bits, which is as good."""
        slots = self.plan.slots
        names = dict.fromkeys(n.inputs[2] for n in self.graph.nodes if len(n.inputs) > 2 and n.inputs[1] in self.params)
        fine = [name for name in names if name not in slots or slots[name].format.bits >= 32]
        return [name for name in fine if name in self.constants]

    def _groups(self) -> list[list[str]]:
        """Tensors of activations that share a scale."""
        groups = [[s.name for s in slots if s.kind == "activations"] for slots in self.plan.groups().values()]
        return [members for members in groups if members and members[0] in self.params]

    def _quantizer(self, members: Sequence[str]) -> Activation:
        pixels = any(name in self.graph.inputs for name in members)  # these fill their range
        learns = not pixels and not self.plan.slots[members[0]].format.power_of_two
        return Activation.of(self.params[members[0]], learns, None)

    def groups(self) -> list[dict[str, object]]:
        """Parameter groups of the optimizer."""
        scales = [a.scale for a in self.activations.values() if a.learns]
        sizes = [float(b.detach().square().mean().sqrt()) for b in self.biases.values()]
        groups = [{"params": list(self.gains.values()), "start": RATE}] if self.gains else []
        groups += [{"params": [b], "start": RATE * size} for b, size in zip(self.biases.values(), sizes, strict=True)]
        return [*groups, *({"params": [scale], "start": RATE * float(scale.detach())} for scale in scales)]

    def loss(self, images: Tensor, real: dict[str, Tensor], loss: Loss) -> Tensor:
        """On some of the images."""
        self.executor.constants.update({name: self._weights(name) for name in self.gains})
        self.executor.constants.update(self.biases)
        return loss(self.executor({self.graph.inputs[0]: images}), real)

    def _weights(self, name: str) -> Tensor:
        value, quant = self.constants[name], self.params[name]
        shape = [1] * value.ndim
        shape[quant.axis or 0] = -1
        return value * torch.exp(self.gains[name]).view(shape)

    @torch.no_grad()
    def result(self) -> tuple[Graph, dict[str, QuantParams]]:
        """Constants and formats as learned."""
        graph, params = self.graph.copy(), dict(self.params)
        for name, gain in self.gains.items():
            graph.set_constant(name, self._weights(name).numpy())
            params[name] = _scaled(params[name], np.exp(gain.numpy().astype(np.float64)))
        for name, bias in self.biases.items():
            graph.set_constant(name, bias.detach().numpy().copy())
        for members in self._groups():
            scale = float(np.float32(float(self.activations[members[0]].scale)))
            params |= {name: replace(params[name], scale=scale) for name in members}
        return graph, params | calibration.accumulators(graph, self.plan, params)


def _scaled(quant: QuantParams, gain: Array) -> QuantParams:
    scales: list[float] = (np.asarray(quant.scale) * gain).astype(np.float32).tolist()
    return replace(quant, scale=tuple(scales) if isinstance(quant.scale, tuple) else scales[0])
