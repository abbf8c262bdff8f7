"""Optimizers, and which parameters they move."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.recipe import TrainSettings
from lowwatt.training.norms import is_norm

_BETA2 = 0.95  # gradients shrink tenfold in a short run; 0.999 would remember the first ones throughout


def freeze(module: nn.Module, parts: list[str]) -> None:
    """Hold the parameters of these parts, by the beginning of their names; their batch norms keep their statistics.

    >>> freeze(model, ["backbone.stem", "backbone.dark2"])  # doctest: +SKIP
    """
    named = dict(module.named_modules())
    for part in parts:
        if part not in named:
            raise ToolError(f"no part {part} to freeze", where="train.freeze", hint=did_you_mean(part, named))
        named[part].requires_grad_(False)


def train_mode(module: nn.Module, norms: bool = True) -> None:
    """Training mode, but for batch norms that are frozen: their statistics stay. `norms` False freezes all of them."""
    module.train()
    for child in module.modules():
        if is_norm(child) and not (norms and child.weight.requires_grad):
            child.eval()


def parameter_groups(module: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Weight decay on convolution weights only (not on biases and batch norm)."""
    learned = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.ndim > 1]
    others = [p for p in learned if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def optimizer_of(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW. A group's `factor`, where it has one, multiplies the rate."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, _BETA2), fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
