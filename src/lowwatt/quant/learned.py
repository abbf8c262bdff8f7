"""Fake quantization with gradients, for QAT: straight through the rounding, and to the scale as LSQ.

LSQ: Esser et al., arXiv 1902.08153. Thresholds in powers of two: TQT, arXiv 1903.08066.

Speed. Nothing is kept for the backward pass but input and output. With y the output and dx the gradient to the input
(dy where not clamped, else 0), LSQ's gradient to the scale, q - x/s inside and the limit outside, summed, is

    ds = (dy·y - dx·x) / s

which two dot products give; the mask is one fused operator. So a tensor is passed over about ten times, not thirty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from lowwatt.quant.executor import ROUNDINGS


@dataclass(frozen=True, slots=True)
class Grid:
    """Integers low…high about `zero`, times `scale`: one number, or a tensor that broadcasts (a scale a channel).

    Gradients pass where x / scale is within the limits widened by `margin` steps: 0.5 lets through what rounds to a
    limit (TQT), 0 what is within (LSQ).
    """

    scale: float | torch.Tensor
    zero: float
    low: int
    high: int
    rounding: str
    margin: float = 0.5

    def limits(self) -> tuple[Any, Any]:
        """Real values between which gradients pass."""
        low = (self.low - self.zero - self.margin) * self.scale
        return low, (self.high - self.zero + self.margin) * self.scale

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """Values of `x` on the grid, saturated; no gradient."""
        low, high = self.low - self.zero, self.high - self.zero
        if self.rounding == "PY3_ROUND" and isinstance(self.scale, float) and self.low <= self.zero <= self.high:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, int(self.zero), self.low, self.high)
        if self.rounding != "DPU_ROUND":
            return ROUNDINGS[self.rounding](x / self.scale).clamp_(low, high).mul_(self.scale)
        if isinstance(self.scale, float) and math.frexp(self.scale)[0] == 0.5:  # times 1 / scale is exact
            steps = torch.add(_HALF.to(x), x, alpha=1 / self.scale)
        else:
            steps = (x / self.scale).add_(0.5)
        return steps.floor_().clamp_(low, high).mul_(self.scale)


_HALF = torch.tensor(0.5)


class _Learned(torch.autograd.Function):
    """On the grid forward; backward to x and, times `factor`, to what the scale is made of."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, learned: torch.Tensor, grid: Grid, factor: Any) -> Any:
        ctx.grid, ctx.factor, ctx.shape = grid, factor, learned.shape
        y = grid.snap(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad,), (x, y) = grads, ctx.saved_tensors
        inner = through(grad, x, ctx.grid)
        toward = None
        if ctx.needs_input_grad[1]:
            toward = toward_scale(grad, inner, x, y, ctx.grid.scale, ctx.factor).reshape(ctx.shape)
        return inner, toward, None, None


def through(grad: torch.Tensor, x: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The gradient where `x` is not clamped, else 0."""
    low, high = grid.limits()
    if isinstance(low, torch.Tensor):
        return torch.where((x > low) & (x < high), grad, 0.0)
    passed: torch.Tensor = _MASK(grad, x, low, high)
    return passed


_MASK = torch.ops.aten.hardtanh_backward.default


def toward_scale(
    grad: torch.Tensor, inner: torch.Tensor, x: torch.Tensor, y: torch.Tensor, scale: Any, factor: Any
) -> torch.Tensor:
    """ds of the module's docstring times `factor`; `inner` is what goes through to `x`."""
    if isinstance(scale, float):
        flat = [t.reshape(-1) for t in (grad, y, inner, x)]
        return (torch.dot(flat[0], flat[1]) - torch.dot(flat[2], flat[3])) * (factor / scale)
    whole: torch.Tensor = torch.addcmul(grad * y, inner, x, value=-1).sum_to_size(scale.shape) * (factor / scale)
    return whole


def learn(x: torch.Tensor, learned: torch.Tensor, grid: Grid, factor: Any = 1.0) -> torch.Tensor:
    """`x` on the grid. `learned` gets the gradient to the grid's scale times `factor`: the chain rule of how the scale
    follows from it, which spares autograd dozens of operators on single numbers.
    """
    result: torch.Tensor = _Learned.apply(x, learned, grid, factor)
    return result
