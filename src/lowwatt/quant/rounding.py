"""Rounding that learns: which way each weight of a block is rounded, and the scales of its activations.

AdaRound: Nagel et al., arXiv 2004.10568. QDrop: Wei et al., arXiv 2203.05740.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lowwatt.ir.arithmetic import quantize
from lowwatt.types import Array, QuantParams

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid: h reaches 0 and 1 at finite V (arXiv 2004.10568, eq. 23)."""

WARM_UP, BETA = 0.2, (20.0, 2.0)
"""Share of the iterations without the pull towards 0 and 1; its exponent from there on, falling linearly."""


class SoftWeights:
    """Weights w = scale * (floor(w / scale) + h(V)) of several constants, as one flat vector.

    V starts where h is the float weights' own fraction, so that the first step sees the float network's weights but for
    what is clipped. Weights beyond the range stay on its edge.
    """

    def __init__(self, constants: Mapping[str, Array], params: Mapping[str, QuantParams]) -> None:
        self.shapes = {name: data.shape for name, data in constants.items()}
        self.params = {name: params[name] for name in constants}
        lows, steps, fractions = zip(*(_cells(data, params[name]) for name, data in constants.items()), strict=True)
        self.low, self.step, fraction = (torch.from_numpy(np.concatenate(x)) for x in (lows, steps, fractions))
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        start = torch.logit((fraction - GAMMA) / (ZETA - GAMMA))
        self.v = start.requires_grad_()
        self.pull: tuple[float, float] | None = None
        """Weight and exponent of the regulariser sum(1 - |2h - 1|^beta); None: without it."""

    def soft(self) -> dict[str, torch.Tensor]:
        """Weights by name, with gradients to `v`."""
        return self._named(_Soften.apply(self.v, self))

    def hard(self) -> dict[str, torch.Tensor]:
        """Weights by name, exactly on their grid: what their integers stand for."""
        with torch.no_grad():
            flat = self.low + self.step * (self.v >= 0)
        near = {name: value.numpy() for name, value in self._named(flat.split(self.sizes)).items()}
        return {n: torch.from_numpy(q.dequantize(quantize(near[n], q))) for n, q in self.params.items()}

    def _named(self, parts: Any) -> dict[str, torch.Tensor]:
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def _cells(data: Array, quant: QuantParams) -> tuple[Array, Array, Array]:
    """Each weight's lower neighbour on the grid, the step to the upper one (0 at the edges), and its fraction."""
    step = np.broadcast_to(quant.step(data.ndim), data.shape)
    real = np.asarray(data, np.float64) / step
    floor = np.floor(real)
    low, high = quant.qmin - quant.zero_point, quant.qmax - quant.zero_point
    free = (floor >= low) & (floor < high)
    cells = np.clip(floor, low, high) * step, np.where(free, step, 0.0), real - floor
    first, second, third = (np.ascontiguousarray(x, np.float32).reshape(-1) for x in cells)
    return first, second, third


class _Soften(torch.autograd.Function):
    """V → weights; backward adds the regulariser's gradient, which nothing else computes."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, weights: SoftWeights) -> Any:
        ctx.weights = weights
        ctx.sigmoid = torch.sigmoid(v)
        ctx.h = ctx.sigmoid.mul(ZETA - GAMMA).add_(GAMMA).clamp_(0, 1)
        return torch.addcmul(weights.low, weights.step, ctx.h).split(weights.sizes)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        weights, h = ctx.weights, ctx.h
        flat = torch.cat([grad.reshape(-1) for grad in grads]).mul_(weights.step)
        if weights.pull is not None:
            strength, beta = weights.pull
            side = h.mul(2).sub_(1)
            flat.add_(side.abs().pow_(beta - 1).copysign_(side), alpha=-2 * strength * beta)
        slope = torch.ops.aten.hardtanh_backward(flat, h, 0.0, 1.0)
        return slope.mul_(torch.addcmul(ctx.sigmoid, ctx.sigmoid, ctx.sigmoid, value=-1)).mul_(ZETA - GAMMA), None


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
        self.share = share
        self.pool = self._drawn(self.SIZE)

    def _drawn(self, count: int) -> torch.Tensor:
        return (torch.rand(count, generator=self.generator) < self.share).float()

    def like(self, value: torch.Tensor) -> torch.Tensor:
        """Ones with the probability `share`, in the shape of `value`."""
        count = value.numel()
        if 2 * count > len(self.pool):
            self.pool = self._drawn(4 * count)
        start = int(torch.randint(0, len(self.pool) - count, (), generator=self.generator))
        return self.pool[start : start + count].view(value.shape)
