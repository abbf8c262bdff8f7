"""Fake quantization of a block's activations while it is reconstructed: scales that learn, values that are dropped.

With y the rounded values and dx the gradient to the input (that of the output where nothing was clipped, else 0), LSQ's
gradient to the scale (arXiv 1902.08153: q - x/s inside, the limit outside) sums up to (dy·y - dx·x) / s: two dot
products, nothing but x and y kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lowwatt.quant.executor import ROUNDINGS
from lowwatt.quant.rounding import Masks
from lowwatt.types import QuantParams


@dataclass(slots=True)
class Activation:
    """Quantizer of one tensor, or of a group with one scale. `masks` mixes float values in (QDrop); `scale` learns."""

    quant: QuantParams
    scale: torch.Tensor
    masks: Masks | None

    @classmethod
    def of(cls, quant: QuantParams, learn: bool, masks: Masks | None) -> Activation:
        """A quantizer that starts at the numbers of `quant`."""
        assert isinstance(quant.scale, float)
        return cls(quant, torch.tensor(quant.scale, requires_grad=learn), masks)

    @property
    def learns(self) -> bool:
        """Whether the scale learns."""
        return bool(self.scale.requires_grad)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rounded values, some of them left as they are."""
        mask = self.masks.like(x) if self.masks is not None else None
        result: torch.Tensor = _Quantize.apply(x, self.scale, self.quant, mask)
        return result


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, quant: QuantParams, mask: torch.Tensor | None) -> Any:
        step = scale.detach()
        low, high = quant.qmin - quant.zero_point, quant.qmax - quant.zero_point
        y = _rounded(x, step, quant.rounding).clamp_(low, high).mul_(step)
        ctx.edges = (low - 0.5) * float(step), (high + 0.5) * float(step)
        ctx.step, ctx.mask = step, mask
        ctx.save_for_backward(x, y)
        return y if mask is None else torch.lerp(x, y, mask)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad,), (x, y) = grads, ctx.saved_tensors
        rounded = grad if ctx.mask is None else grad * ctx.mask
        inner = torch.ops.aten.hardtanh_backward(rounded, x, *ctx.edges)
        toward = None
        if ctx.needs_input_grad[1]:
            toward = (_dot(rounded, y) - _dot(inner, x)) / ctx.step
        if ctx.mask is not None:
            inner = inner.add_(grad).sub_(rounded)
        return inner, toward, None, None


def _rounded(x: torch.Tensor, step: torch.Tensor, mode: str) -> torch.Tensor:
    """A new tensor of whole numbers."""
    steps = x / step
    return steps.round_() if mode == "PY3_ROUND" else ROUNDINGS[mode](steps)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.dot(a.reshape(-1), b.reshape(-1))
