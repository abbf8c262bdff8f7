"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class Ema:
    """Keeps an averaged copy of a module. The decay rises from 0 as decay·(1 - exp(-step/ramp)) (YOLOX, yolov5)."""

    def __init__(self, module: nn.Module, decay: float, ramp: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.ramp, self.step = decay, ramp, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step of the average; batch-norm statistics are averaged too, counters copied."""
        self.step += 1
        decay = self.decay * (1 - math.exp(-self.step / self.ramp))
        new = module.state_dict()
        mine, theirs = [], []
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                mine.append(value)
                theirs.append(new[name].detach())
            else:
                value.copy_(new[name])
        torch._foreach_lerp_(mine, theirs, 1 - decay)
