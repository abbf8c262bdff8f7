"""Quantizers of papers that no target asks for: DSQ, DoReFa, QIL and APoT. All end on a uniform grid but APoT.

Written for clearness on autograd's own operators. Where a paper's levels lie in [-1, 1], since a batch norm behind
the layer restores the size, they are multiplied by the calibrated threshold, so that they fit folded networks too.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import NoReturn

import torch
from torch import nn

from lowwatt.errors import ToolError
from lowwatt.quant.executor import ROUNDINGS
from lowwatt.quant.quantizers import SMALLEST, LearnedQuantizer
from lowwatt.quant.scheme import NumberFormat
from lowwatt.types import QuantParams

SOFTNESS = 0.4
"""DSQ's α at the start: 1 minus the height of the soft step, in its steps."""


def straight(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Value of `hard`, gradient of `soft`."""
    return soft + (hard - soft).detach()


class Dsq(LearnedQuantizer):
    """Differentiable soft quantization (Gong et al., arXiv 1908.05033).

    In step i, with middle m and width Δ: φ(x) = tanh(k (x - m)) / (1 - α), k = ln(2/α - 1) / Δ, and
    Q(x) = low + Δ (i + (φ + 1)/2), whose φ is replaced by its sign forward. Δ (that is, l and u) and α learn.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.scale = nn.Parameter(self.initial())
        self.alpha = nn.Parameter(torch.tensor(SOFTNESS))

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        zero, delta = self.start.zero_point, self.shaped(self.scale.abs().clamp_min(SMALLEST), x.ndim)
        low, high = self.low - zero, self.high - zero
        clipped = torch.minimum(torch.maximum(x, low * delta), high * delta)
        steps = clipped / delta
        index = steps.detach().floor().clamp(low, high - 1)
        alpha = self.alpha.clamp(0.01, 0.99)
        phi = torch.tanh(torch.log(2 / alpha - 1) * (steps - index - 0.5)) / (1 - alpha)
        hard = ROUNDINGS[self.start.rounding](steps.detach()) * delta
        return straight(hard, delta * (index + (phi + 1) / 2))

    def export(self) -> QuantParams:
        """Δ."""
        return self.with_scale(self.scale.abs().clamp_min(SMALLEST))


class DoReFa(LearnedQuantizer):
    """DoReFa-Net (Zhou et al., arXiv 1606.06160): weights tanh(w) / max|tanh(w)|, activations clip(x, 0, 1), rounded.

    Nothing learns. Both are stated for a threshold of 1; c, the calibrated one, takes its place, and signed formats
    have the integers -high…high instead of the paper's 2 · q_k(x/2 + 1/2) - 1, which has no zero.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.register_buffer("scale", self.initial())

    def constant(self, x: torch.Tensor) -> torch.Tensor:
        """c · tanh(w/c) / max|tanh(w/c)| for weights."""
        if self.kind == "activations":
            return x
        limit = self.high * self.shaped(self.scale, x.ndim)
        bent = torch.tanh(x / limit)
        return limit * bent / bent.abs().max().clamp_min(SMALLEST)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        scale, zero = self.shaped(self.scale, x.ndim), self.start.zero_point
        lowest = max(self.low - zero, -self.high)
        bent = torch.minimum(torch.maximum(self.constant(x), lowest * scale), (self.high - zero) * scale)
        return straight(ROUNDINGS[self.start.rounding](bent / scale) * scale, bent)

    def export(self) -> QuantParams:
        """The calibrated scale, without the lowest integer."""
        return replace(self.with_scale(self.scale), narrow=self.start.signed)


class Qil(LearnedQuantizer):
    """Quantization interval learning (Jung et al., arXiv 1808.05779).

    T(w) = sign(w) · (α|w| + β)^γ between the pruning point c - d and the clipping point c + d, 0 below, ±1 above, with
    α = 1/2d, β = 1/2 - c/2d; then rounded to high steps. Centre c, half width d and γ learn. Activations have γ = 1 and
    c = d: a target's integers cannot stand for values that were shifted by a pruning point.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        if start.zero_point:
            raise ToolError("QIL has no zero point", why="the format has one", hint="take lsq+")
        limit = self.initial() * self.high
        self.register_buffer("limit", limit)
        self.half_width = nn.Parameter(limit / 2)
        self.centre = nn.Parameter(limit / 2) if kind != "activations" else None
        self.gamma = nn.Parameter(torch.tensor(1.0)) if kind != "activations" else None

    def _amplitude(self, rank: int) -> torch.Tensor:
        return self.shaped(self.limit if self.centre is not None else 2 * self._half(), rank)

    def _half(self) -> torch.Tensor:
        return self.half_width.abs().clamp_min(SMALLEST)

    def constant(self, x: torch.Tensor) -> torch.Tensor:
        """T(w), times the calibrated threshold (2d for activations)."""
        half = self.shaped(self._half(), x.ndim)
        centre = half if self.centre is None else self.shaped(self.centre, x.ndim)
        share = ((x.abs() - (centre - half)) / (2 * half)).clamp(0, 1)
        if self.gamma is not None:  # 0 has no slope to a power below 1
            share = torch.where(share > 0, share.clamp_min(1e-6) ** self.gamma, share)
        sign = torch.sign(x) if self.low < 0 else (x > 0).to(x)
        return sign * share * self._amplitude(x.ndim)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        moved, scale = self.constant(x), self._amplitude(x.ndim) / self.high
        steps = moved / scale
        return scale * straight(ROUNDINGS[self.start.rounding](steps.detach()), steps)

    def export(self) -> QuantParams:
        """Threshold in steps."""
        return self.with_scale((self.limit if self.centre is not None else 2 * self._half()) / self.high)


class Apot(LearnedQuantizer):
    """Additive powers of two (Li et al., arXiv 1909.13144): levels α · γ · Σ p_i, with p_i of 2 bits in n terms,
    p_i ∈ {0, 2^-i, 2^-(i+n), 2^-(i+2n)}; α learns as a clipping threshold with the rounding's error (their RCF).

    One bit is the sign where the format is signed; where the others are odd in number, the last term has one bit.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.alpha = nn.Parameter(self.initial() * self.high)
        self.register_buffer("levels", apot_levels(start.bits - start.signed))

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        alpha = self.shaped(self.alpha.abs().clamp_min(SMALLEST), x.ndim)
        share = (x / alpha).clamp(-1 if self.start.signed else 0, 1)
        size = share.detach().abs().contiguous()
        nearest = self.levels[torch.bucketize(size, (self.levels[1:] + self.levels[:-1]) / 2)]
        return alpha * straight(nearest * torch.sign(share.detach()), share)

    def export(self) -> NoReturn:
        """Refused: no integer format has these levels."""
        raise ToolError("APoT cannot be exported", why="its levels are not evenly spaced", hint="take lsq or tqt")


def apot_levels(bits: int) -> torch.Tensor:
    """Magnitudes of additive powers of two, ascending, the largest 1 (eq. 5 of the paper).

    >>> [round(float(level), 3) for level in apot_levels(4)][:4]
    [0.0, 0.021, 0.042, 0.062]
    """
    terms = math.ceil(bits / 2)
    choices = [[0.0] + [2.0 ** -(i + j * terms) for j in range(3)] for i in range(terms)]
    if bits % 2:
        choices[-1] = choices[-1][:2]
    sums = sorted({sum(chosen) for chosen in itertools.product(*choices)})
    levels = torch.tensor(sums)
    return levels / levels[-1]
