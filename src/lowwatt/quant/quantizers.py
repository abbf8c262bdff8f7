"""Quantizers that learn: how values become integers, with gradients, one module for each tensor or sharing group.

Each starts from a calibrated format and ends in one (`export`). Those whose grid is not the plain values' own also say
what the constant becomes (`constant`). LSQ, LSQ+, TQT and PACT are here, the research kinds in `quantizers_research`;
`make_quantizer` finds all by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.quant.learned import Grid, learn
from lowwatt.quant.scheme import NumberFormat
from lowwatt.types import QuantParams

SMALLEST = 2.0**-24
"""A learned scale does not fall below."""


class LearnedQuantizer(nn.Module):
    """Real values → real values that integers stand for. `start` is the calibrated format.

    `pinned` is a fix point that a rule of the target wants instead of its own (`point`).
    """

    any_scale = True
    """Whether the scale may be any number, so that it does not fit formats of powers of two."""

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__()
        self.format, self.start, self.kind = format, start, kind
        self.low, self.high = start.qmin, start.qmax
        self.pinned: int | None = None

    def point(self) -> int:
        """Fix point that it asks for, where its format is a power of two."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, rectified: bool = False) -> torch.Tensor:
        """Any shape; `rectified`: ReLU first."""
        return self.quantize(torch.relu(x) if rectified else x)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """The kind's own rule."""
        raise NotImplementedError

    def constant(self, x: torch.Tensor) -> torch.Tensor:
        """Values that the exported format rounds to what `forward` gives for `x`."""
        return x

    def export(self) -> QuantParams:
        """Number format at the end."""
        raise NotImplementedError

    def shaped(self, scale: torch.Tensor, rank: int) -> torch.Tensor:
        """A scale a channel, to broadcast against a tensor of `rank` dimensions."""
        if self.start.axis is None:
            return scale
        shape = [1] * rank
        shape[self.start.axis] = -1
        return scale.reshape(shape)

    def initial(self) -> torch.Tensor:
        """The calibrated scale, one number or one a channel."""
        return torch.tensor(np.asarray(self.start.scale), dtype=torch.float32)

    def with_scale(self, scale: torch.Tensor, zero: int | None = None) -> QuantParams:
        """The starting format with another scale."""
        values = scale.detach().double().tolist()
        found = values if isinstance(values, float) else tuple(values)
        return replace(self.start, scale=found, zero_point=self.start.zero_point if zero is None else zero)


class GridQuantizer(LearnedQuantizer):
    """A quantizer whose values are a grid's, and whose one parameter makes the grid's scale."""

    any_scale = False

    def grid(self, x: torch.Tensor, rectified: bool = False) -> tuple[torch.Tensor, Grid, float]:
        """The parameter, the grid for `x` (with a lower limit of zero where `rectified`), d scale / d parameter."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, rectified: bool = False) -> torch.Tensor:
        """As the class says; the ReLU is a lower limit of the grid."""
        return learn(x, *self.grid(x, rectified))


class Lsq(GridQuantizer):
    """Learned step size (Esser et al., arXiv 1902.08153): y = s · round(clamp(x/s, low, high)).

    dy/ds = round(x/s) - x/s inside, the limit outside, times 1/sqrt(N · high) with N weights, or features an image.
    A zero point stays as calibrated. On formats of powers of two s is rounded to one, straight through.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.scale = nn.Parameter(self.initial())

    def step(self) -> torch.Tensor:
        """The scale in use, without gradient."""
        if self.format.power_of_two:
            return torch.tensor(math.ldexp(1.0, -(self.point() if self.pinned is None else self.pinned)))
        return self.scale.detach().clamp_min(SMALLEST)

    def point(self) -> int:
        """Fix point nearest to the scale."""
        return -round(math.log2(max(float(self.scale.detach()), SMALLEST)))

    def grid(self, x: torch.Tensor, rectified: bool = False) -> tuple[torch.Tensor, Grid, float]:
        """Gradients pass within the limits, not beyond."""
        step, zero = self.step(), self.start.zero_point
        scale = float(step) if step.ndim == 0 else self.shaped(step, x.ndim)
        low = max(self.low, zero) if rectified else self.low
        return self.scale, Grid(scale, zero, low, self.high, self.start.rounding, 0.0), self._factor(x)

    def _factor(self, x: torch.Tensor) -> float:
        count = x.numel() // (self.scale.numel() if self.kind != "activations" else max(1, x.shape[0]))
        return 1 / math.sqrt(max(1, count * self.high))

    def export(self) -> QuantParams:
        """Its own scale."""
        return self.with_scale(self.step())


class LsqPlus(Lsq):
    """LSQ with a learned offset (Bhalgat et al., arXiv 2004.09576): y = s · round(clamp((x - β)/s, low, high)) + β.

    β stays a multiple of s, -zero_point · s, as integers have it; its gradient is 1 outside of the limits, 0 inside.
    On symmetric formats it is LSQ.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.offset = nn.Parameter(-self.initial() * start.zero_point) if not format.symmetric else None

    def zero(self) -> int:
        """Zero point in use."""
        if self.offset is None:
            return 0
        return min(max(round(-float(self.offset.detach()) / float(self.step())), self.low), self.high)

    def forward(self, x: torch.Tensor, rectified: bool = False) -> torch.Tensor:
        """As the class says."""
        if self.offset is None:
            return super().forward(x, rectified)
        x = torch.relu(x) if rectified else x
        step = float(self.step())
        offset = self.offset * self._factor(x)
        beta = offset + (-self.zero() * step - offset).detach()
        grid = Grid(step, 0, self.low, self.high, self.start.rounding, 0.0)
        return learn(x - beta, self.scale, grid, self._factor(x)) + beta

    def export(self) -> QuantParams:
        """Scale and zero point."""
        return self.with_scale(self.step(), self.zero())


class Tqt(GridQuantizer):
    """Trained thresholds (Jain et al., arXiv 1903.08066): s = 2^ceil(log2 t) / 2^(b-1), or / 2^b where unsigned.

    log2 t learns: dy/d(log2 t) = s · ln 2 · (round(x/s) - x/s inside, the limit outside). It starts half an octave
    below the calibrated power of two.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        if start.axis is not None or start.zero_point:
            why = "the format has a zero point" if start.axis is None else "the format has a scale a channel"
            raise ToolError("TQT has one threshold a tensor and no zero point", why=why, hint="take lsq")
        self.digits = start.bits - start.signed
        self.log2_threshold = nn.Parameter(torch.log2(self.initial()).ceil() + self.digits - 0.5)

    def point(self) -> int:
        """Fix point that the threshold asks for."""
        return self.digits - math.ceil(float(self.log2_threshold.detach()))

    def grid(self, x: torch.Tensor, rectified: bool = False) -> tuple[torch.Tensor, Grid, float]:
        """Gradients pass for all that rounds to a number within the limits."""
        scale = math.ldexp(1.0, -(self.point() if self.pinned is None else self.pinned))
        zero = self.start.zero_point
        grid = Grid(scale, zero, max(self.low, zero) if rectified else self.low, self.high, self.start.rounding)
        return self.log2_threshold, grid, scale * math.log(2)

    def export(self) -> QuantParams:
        """The power of two in use."""
        return replace(self.start, scale=math.ldexp(1.0, -(self.point() if self.pinned is None else self.pinned)))


class Pact(LearnedQuantizer):
    """Learned clipping (Choi et al., arXiv 1805.06085): clip to [0, α], or [-α, α] where signed; s = α / high.

    dy/dα = 1 where clipped (-1 at the lower end), else 0: the rounding inside is passed straight through.
    """

    def __init__(self, format: NumberFormat, start: QuantParams, kind: str) -> None:
        super().__init__(format, start, kind)
        self.alpha = nn.Parameter(self.initial() * (self.high - start.zero_point))

    def _scale(self) -> torch.Tensor:
        return self.alpha.abs().clamp_min(SMALLEST) / (self.high - self.start.zero_point)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        zero, scale = self.start.zero_point, self.shaped(self._scale(), x.ndim)
        clipped = torch.minimum(torch.maximum(x, (self.low - zero) * scale), (self.high - zero) * scale)
        grid = Grid(scale.detach(), zero, self.low, self.high, self.start.rounding)
        return clipped + (grid.snap(clipped.detach()) - clipped).detach()

    def export(self) -> QuantParams:
        """α in steps."""
        return self.with_scale(self._scale())


Maker = Callable[[NumberFormat, QuantParams, str], LearnedQuantizer]


def makers() -> dict[str, Maker]:
    """Class of each quantizer by its name."""
    from lowwatt.quant import quantizers_research as research

    own: dict[str, Maker] = {"lsq": Lsq, "lsq+": LsqPlus, "tqt": Tqt, "pact": Pact}
    return own | {"dsq": research.Dsq, "dorefa": research.DoReFa, "qil": research.Qil, "apot": research.Apot}


def make_quantizer(name: str, format: NumberFormat, start: QuantParams, kind: str) -> LearnedQuantizer:
    """Quantizer of a name for one tensor (`kind` as in `Slot`); ToolError where it does not fit the format."""
    table = makers()
    if name not in table:
        raise ToolError(f"unknown quantizer {name}", hint=did_you_mean(name, table) or f"known: {', '.join(table)}")
    made = table[name](format, start, kind)
    if format.power_of_two and made.any_scale:
        raise ToolError(f"{name} has scales of any size", why=f"the format is {format}", hint="take tqt or lsq")
    return made
