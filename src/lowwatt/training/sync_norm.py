"""Batch norm over the batches of all processes, so that a run does not depend on how many there are.

torch's own SyncBatchNorm runs on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every BatchNorm2d taking its statistics over all processes; names and values stay."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in list(module.named_children()):
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _SyncBatchNorm.of(child))
        else:
            synchronised(child, device)
    return module


class _SyncBatchNorm(nn.BatchNorm2d):
    """All processes must hold batches of one size."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> _SyncBatchNorm:
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.__dict__.update(norm.__dict__)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same, normalised by mean and variance over all processes in training."""
        if not self.training:
            return super().forward(x)
        result: Tensor
        result, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        return result


class _Normalise(torch.autograd.Function):
    """Sums in float64, as torch's own kernel on a CPU has them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        count = torch.distributed.get_world_size() * x.numel() // x.shape[1]
        mean = _total(_sums(x)) / count
        variance = _total(_sums((x.double() - mean[:, None, None]).square())) / count
        mean, variance = mean.to(weight.dtype), variance.to(weight.dtype)
        ctx.count, ctx.eps = count, eps
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        result = functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        return result, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *rest: Any) -> Any:
        x, weight, mean, variance = ctx.saved_tensors
        spread = torch.rsqrt(variance + ctx.eps)
        normal = (x.to(weight.dtype) - mean[:, None, None]) * spread[:, None, None]
        own = torch.stack([_sums(grad), _sums(grad * normal)])
        shift, scale = (_total(own.clone()) / ctx.count).to(weight.dtype)[..., None, None]
        inner = (grad - shift - normal * scale) * (weight * spread)[:, None, None]
        return inner.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _sums(x: Tensor) -> Tensor:
    """By channel."""
    return x.sum((0, 2, 3), dtype=torch.float64)


def _total(value: Tensor) -> Tensor:
    """Sum over the processes, in place."""
    torch.distributed.all_reduce(value)
    return value
