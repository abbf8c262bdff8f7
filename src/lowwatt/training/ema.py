"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Ema:
    """Keeps an averaged copy of a module. The decay rises from 0 as decay·(1 - exp(-step/ramp)) (YOLOX, yolov5)."""

    def __init__(self, module: nn.Module, decay: float, ramp: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.ramp, self.step = decay, ramp, 0
        self._pairs: _Pairs | None = None

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step of the average; batch-norm statistics are averaged too, counters copied."""
        self.step += 1
        decay = self.decay * (1 - math.exp(-self.step / self.ramp))
        if self._pairs is None or self._pairs.source is not module:
            self._pairs = _Pairs.of(self.module, module)
        pairs = self._pairs
        torch._foreach_lerp_(pairs.averages, pairs.values, 1 - decay)
        torch._foreach_copy_(pairs.copies, pairs.counters)


@dataclass(frozen=True)
class _Pairs:
    """The tensors of an average beside those of its source: to list a module's state costs more than to average it."""

    source: nn.Module
    averages: list[Tensor]
    values: list[Tensor]
    copies: list[Tensor]
    counters: list[Tensor]

    @classmethod
    def of(cls, average: nn.Module, source: nn.Module) -> _Pairs:
        new, found, seen = source.state_dict(), cls(source, [], [], [], []), set()
        for name, value in average.state_dict(keep_vars=True).items():
            if id(value) in seen:  # shared by several layers
                continue
            seen.add(id(value))
            floating = value.is_floating_point()
            (found.averages if floating else found.copies).append(value)
            (found.values if floating else found.counters).append(new[name])
        return found
