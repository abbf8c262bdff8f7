"""Fake quantization with gradients, for reconstruction and QAT: straight through the rounding, and to the scale as LSQ.

LSQ: Esser et al., arXiv 1902.08153. Zero point: LSQ+, arXiv 2004.09576.
"""

from __future__ import annotations

from typing import Any

import torch

from lowwatt.quant.executor import ROUNDINGS


class _Learned(torch.autograd.Function):
    """y = (clamp(round(x / s) + z) - z) * s. Gradients: dx where not clamped; ds = q - x/s there, else the limit."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero: float, low: int, high: int, mode: str) -> Any:
        steps = x / scale
        rounded = ROUNDINGS[mode](steps)
        clamped = rounded.clamp(low - zero, high - zero)
        inside = clamped == rounded
        ctx.save_for_backward(inside, torch.where(inside, clamped - steps, clamped))
        ctx.shape = scale.shape
        return clamped * scale

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        inside, slope = ctx.saved_tensors
        grad = grads[0]
        toward = None
        if ctx.needs_input_grad[1]:
            toward = (grad * slope).sum_to_size(ctx.shape)
        return grad * inside, toward, None, None, None, None


def fake_quantize_learned(
    x: torch.Tensor, scale: torch.Tensor, zero: float, low: int, high: int, rounding: str
) -> torch.Tensor:
    """Fake-quantized `x` with gradients to `x` and to `scale` (one number, or shaped to broadcast against `x`)."""
    result: torch.Tensor = _Learned.apply(x, scale, zero, low, high, rounding)
    return result
