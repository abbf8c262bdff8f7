"""Rounding that learns: which way each weight of a block is rounded, and the scales of its activations.

AdaRound: Nagel et al., arXiv 2004.10568. QDrop: Wei et al., arXiv 2203.05740.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lowwatt.ir.arithmetic import quantize
from lowwatt.types import Array, QuantParams

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid: h reaches 0 and 1 at finite V (arXiv 2004.10568, eq. 23)."""

WARM_UP, BETA = 0.2, (20.0, 2.0)
"""Share of the iterations without the pull towards 0 and 1; its exponent from there on, falling linearly."""


class SoftWeights:
    """Weights w = scale * (floor(w / scale) + h(V)) of several constants, in one flat vector.

    V starts where h is the float weights' own fraction, so that the first step sees the float network's weights but for
    what is clipped. Weights beyond the range stay on its edge.
    """

    def __init__(self, constants: Mapping[str, Array], params: Mapping[str, QuantParams]) -> None:
        self.params = {name: params[name] for name in constants}
        cells = zip(*(_cells(data, params[name]) for name, data in constants.items()), strict=True)
        self.low, self.step, fraction = (torch.from_numpy(np.concatenate(part)) for part in cells)
        self.v = torch.logit((fraction - GAMMA) / (ZETA - GAMMA))
        self._slope = self.step * (ZETA - GAMMA)
        self._gamma, self._minus = torch.tensor(GAMMA), torch.tensor(-1.0)
        self._flat = torch.empty_like(self.low)
        parts = self._flat.split([data.size for data in constants.values()])
        self.leaves = {
            name: part.view(data.shape).detach().requires_grad_()
            for (name, data), part in zip(constants.items(), parts, strict=True)
        }
        """Soft weights by name, for autograd; `soften` changes their values."""

    def soften(self) -> None:
        """Weights of V as it is now."""
        self._sigmoid = torch.sigmoid(self.v)
        self._h = torch.add(self._gamma, self._sigmoid, alpha=ZETA - GAMMA).clamp_(0, 1)
        torch.addcmul(self.low, self.step, self._h, out=self._flat)

    def gradient(self, grads: Sequence[torch.Tensor], pull: tuple[float, float] | None) -> torch.Tensor:
        """To V, of gradients to the leaves; and of the regulariser strength * sum(1 - |2h - 1|^beta), where given."""
        flat = torch.cat([grad.reshape(-1) for grad in grads]).mul_(self._slope)
        if pull is not None:
            strength, beta = pull
            side = torch.add(self._minus, self._h, alpha=2)
            flat.add_(side.abs().pow_(beta - 1).copysign_(side), alpha=-2 * strength * beta * (ZETA - GAMMA))
        inner = torch.ops.aten.hardtanh_backward(flat, self._h, 0.0, 1.0)
        result: torch.Tensor = torch.ops.aten.sigmoid_backward(inner, self._sigmoid)
        return result

    def hard(self) -> dict[str, torch.Tensor]:
        """Weights by name, exactly on their grid: what their integers stand for."""
        torch.addcmul(self.low, self.step, (self.v >= 0).float(), out=self._flat)
        near = {name: leaf.detach().numpy() for name, leaf in self.leaves.items()}
        return {n: torch.from_numpy(q.dequantize(quantize(near[n], q))) for n, q in self.params.items()}


def _cells(data: Array, quant: QuantParams) -> tuple[Array, Array, Array]:
    """Each weight's lower neighbour on the grid, the step to the upper one (0 at the edges), and its fraction."""
    step = np.broadcast_to(quant.step(data.ndim), data.shape)
    real = np.asarray(data, np.float64) / step
    floor = np.floor(real)
    low, high = quant.qmin - quant.zeros(data.ndim), quant.qmax - quant.zeros(data.ndim)
    free = (floor >= low) & (floor < high)
    cells = np.clip(floor, low, high) * step, np.where(free, step, 0.0), real - floor
    first, second, third = (np.ascontiguousarray(x, np.float32).reshape(-1) for x in cells)
    return first, second, third


def pull_at(step: int, iterations: int, strength: float) -> tuple[float, float] | None:
    """The regulariser's weight and exponent at a step."""
    begin = WARM_UP * iterations
    if step < begin:
        return None
    left = max(0.0, 1 - (step - begin) / (iterations - begin))
    return strength, BETA[1] + (BETA[0] - BETA[1]) * left


class Masks:
    """Random zeros and ones, cheap: windows at random places of one long random vector.

    Drawing a number for each element of each map costs more than the convolution that reads it.
    """

    SIZE = 1 << 22

    def __init__(self, share: float, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.places = random.Random(seed)
        self.share = share
        self.pool = self._drawn(self.SIZE)

    def _drawn(self, count: int) -> torch.Tensor:
        return (torch.rand(count, generator=self.generator) < self.share).float()

    def like(self, value: torch.Tensor) -> torch.Tensor:
        """Ones with the probability `share`, in the shape of `value`."""
        count = value.numel()
        if 2 * count > len(self.pool):
            self.pool = self._drawn(4 * count)
        start = self.places.randrange(len(self.pool) - count)
        return self.pool[start : start + count].view(value.shape)


class Adam:
    """Adam (arXiv 1412.6980) on one vector, with a rate for each element: eight operators however many parameters.

    Here and above, numbers stand where operators take them as such: `x.mul_(0.5)` makes a tensor of the 0.5 first,
    which takes longer than multiplying so short a vector.
    """

    def __init__(self, vector: torch.Tensor, rates: torch.Tensor) -> None:
        self.vector, self.rates = vector, rates
        self.mean, self.square = torch.zeros_like(vector), torch.zeros_like(vector)
        self.steps = 0

    def step(self, grad: torch.Tensor) -> None:
        """One update, in place."""
        self.steps += 1
        self.mean.lerp_(grad, 0.1)
        self.square.lerp_(grad * grad, 0.001)
        unbias = (1 - 0.999**self.steps) ** 0.5
        root = torch.sqrt(self.square).add_(1e-8 * unbias)
        self.vector.addcdiv_(self.mean * self.rates, root, value=-unbias / (1 - 0.9**self.steps))
