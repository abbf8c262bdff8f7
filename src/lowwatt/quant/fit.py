"""From the values of a tensor to its number format: the range is chosen by one of several methods.

One form for both kinds of tensor: `Samples` holds rows of values with their weights, one row for a tensor with one
scale, one for each channel of weights with a scale each. A row of an activation is its histogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.arithmetic import ROUNDINGS
from lowwatt.quant.scheme import NumberFormat
from lowwatt.types import Array, QuantParams

Floats = NDArray[np.float64]

PERCENTILE = 99.99
"""Per cent of the values that `percentile` keeps, each tail alike."""

SHRINKS = np.linspace(1.0, 0.2, 65)
"""Shares of the whole range that `mse` and `kl` try."""

SEARCH = 5
"""Fix points that `mse` tries from the widest that clips nothing: the vendor's "diffs" (docs/dpu.md 3.12)."""

FINEST_STEP = 2.0**-18
"""Scale of a tensor of zeros (docs/dpu.md 3.12 has the same for fix points)."""


@dataclass(frozen=True, slots=True)
class Samples:
    """`values` (rows, n) with `counts` (rows, n, or 1 each), and the exact extremes `low`, `high` (rows).

    `moving` are extremes as a moving average over batches sees them; the extremes themselves for constants. `curve` is
    what the one reader of the tensor makes of it (a SiLU, say): errors count behind it, so that a range need not span
    what the curve flattens.
    """

    values: Floats
    counts: Floats | float
    low: Floats
    high: Floats
    moving: tuple[Floats, Floats]
    curve: Callable[[Array], Array] = lambda x: x

    @classmethod
    def of_constant(cls, data: Array, axis: int | None) -> Samples:
        """Values of an array, a row for each index along `axis`, or one row."""
        real = np.asarray(data, np.float64)
        rows = real.reshape(1, -1) if axis is None else np.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)
        low, high = rows.min(1), rows.max(1)
        return cls(rows, 1.0, low, high, (low, high))


Range = tuple[Floats, Floats]
"""Lowest and highest real value that is to be represented, by row."""


def fit(samples: Samples, format: NumberFormat, method: str, axis: int | None = None) -> QuantParams:
    """Number format with its scale and zero point for these samples.

    Methods: minmax (clip nothing), ema (extremes averaged over batches), percentile, mse (least squared error; with
    power-of-two scales the vendor's search over five fix points), kl (least information lost, TensorRT's), lsq
    (2 mean|x| / sqrt(qmax), what LSQ starts from, arXiv 1902.08153).
    """
    if method not in METHODS:
        raise ToolError(f"unknown calibration {method}", hint=did_you_mean(method, METHODS))
    if format.power_of_two:
        return _fit_fix_point(samples, format, method)
    scales, zeros = scale_of(METHODS[method](samples, format), format)
    if axis is None:
        return _params(float(scales[0]), int(zeros[0]), format)
    points = tuple(map(int, zeros)) if zeros.any() else ()
    return replace(_params(tuple(map(float, scales)), 0, format, axis), zero_points=points)


def _params(scale: float | tuple[float, ...], zero: int, format: NumberFormat, axis: int | None = None) -> QuantParams:
    return QuantParams(scale, zero, format.bits, format.signed, axis, format.narrow, format.rounding)


def scale_of(limits: Range, format: NumberFormat) -> tuple[Floats, Floats]:
    """Scales (exact in float32, as files store them) and zero points whose integers span the limits."""
    low, high = np.minimum(limits[0], 0), np.maximum(limits[1], 0)
    qmin, qmax = format.limits
    if format.symmetric:
        steps = high / qmax if qmin == 0 else np.maximum(high / qmax, low / qmin)
    else:
        steps = (high - low) / (qmax - qmin)
    scales = np.maximum(steps, FINEST_STEP).astype(np.float32).astype(np.float64)
    zeros = np.zeros_like(scales) if format.symmetric else np.clip(np.rint(qmin - low / scales), qmin, qmax)
    return scales, zeros


def squared_error(samples: Samples, scales: Floats, zeros: Floats, format: NumberFormat) -> Floats:
    """Sum of squared differences that rounding and clipping cause, behind the curve, by row."""
    steps = ROUNDINGS[format.rounding](samples.values / scales[:, None]) + zeros[:, None]
    real = (np.clip(steps, *format.limits) - zeros[:, None]) * scales[:, None]
    error: Floats = (samples.counts * (samples.curve(real) - samples.curve(samples.values)) ** 2).sum(1)
    return error


# -- methods: each gives the range ---------------------------------------------------------------------------


def _minmax(samples: Samples, format: NumberFormat) -> Range:
    return samples.low, samples.high


def _ema(samples: Samples, format: NumberFormat) -> Range:
    return samples.moving


def _percentile(samples: Samples, format: NumberFormat) -> Range:
    tail = (100 - PERCENTILE) / 100
    order = np.argsort(samples.values, 1)
    values = np.take_along_axis(samples.values, order, 1)
    counts = np.take_along_axis(np.broadcast_to(samples.counts, values.shape), order, 1).cumsum(1)
    share = counts / np.maximum(counts[:, -1:], 1e-300)
    first = (share > tail).argmax(1)
    last = (share >= 1 - tail).argmax(1)
    rows = np.arange(len(values))
    return np.maximum(values[rows, first], samples.low), np.minimum(values[rows, last], samples.high)


def _mse(samples: Samples, format: NumberFormat) -> Range:
    """Least squared error over shrunken ranges: both ends together, then each end alone where there is a zero point."""
    ends = ["both"] if format.symmetric else ["both", "low", "high", "low", "high"]
    low, high = samples.low.copy(), samples.high.copy()
    for end in ends:
        low, high = _shrink(samples, format, (low, high), end)
    return low, high


def _shrink(samples: Samples, format: NumberFormat, limits: Range, end: str) -> Range:
    best: Floats = np.full(len(samples.values), np.inf)
    low, high = limits[0].copy(), limits[1].copy()
    for share in SHRINKS:
        tried = (
            limits[0] * (share if end != "high" else 1.0),
            limits[1] * (share if end != "low" else 1.0),
        )
        error = squared_error(samples, *scale_of(tried, format), format)
        better = error < best
        best = np.where(better, error, best)
        low, high = np.where(better, tried[0], low), np.where(better, tried[1], high)
    return low, high


def _kl(samples: Samples, format: NumberFormat) -> Range:
    """Least Kullback-Leibler divergence between the values and their rounded ones, over shrunken ranges.

    As TensorRT's calibrator (Migacz, GTC 2017): what a range cuts off is counted into its last bin, and zeros, which
    any range represents, do not count.
    """
    if np.ndim(samples.counts) == 0:
        return _mse(samples, format)  # weights have no histogram; nobody calibrates them by divergence
    best, low, high = np.inf, samples.low, samples.high
    for share in SHRINKS:
        tried = samples.low * share, samples.high * share
        divergence = _divergence(samples, *scale_of(tried, format), format)
        if divergence < best:
            best, low, high = divergence, *tried
    return low, high


def _divergence(samples: Samples, scales: Floats, zeros: Floats, format: NumberFormat) -> float:
    values, counts = samples.values[0], np.broadcast_to(samples.counts, samples.values.shape)[0]
    qmin, qmax = format.limits
    steps = np.rint(values / scales[0]) + zeros[0]
    counts = np.where(steps == zeros[0], 0.0, counts)
    inside = (steps >= qmin) & (steps <= qmax)
    levels = np.clip(steps, qmin, qmax).astype(int) - qmin
    clipped = np.where(inside, counts, 0.0)
    for edge, tail in ((inside.argmax(), steps < qmin), (len(inside) - 1 - inside[::-1].argmax(), steps > qmax)):
        clipped[edge] += counts[tail].sum()
    filled = inside & (counts > 0)
    members = np.bincount(levels[filled], minlength=qmax - qmin + 1)
    sums = np.bincount(levels[inside], counts[inside], minlength=qmax - qmin + 1)
    spread = np.where(filled, (sums / np.maximum(members, 1))[levels], 0.0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())


def _lsq(samples: Samples, format: NumberFormat) -> Range:
    mean = (samples.counts * np.abs(samples.values)).sum(1)
    mean = mean / np.broadcast_to(samples.counts, samples.values.shape).sum(1)
    qmin, qmax = format.limits
    if not format.symmetric:  # LSQ is symmetric: cut the whole range in proportion
        share = np.minimum(1, 2 * mean * np.sqrt(qmax) / np.maximum(samples.high - samples.low, 1e-30))
        return samples.low * share, samples.high * share
    step = 2 * mean / np.sqrt(qmax)
    return step * qmin, step * qmax


METHODS: dict[str, Callable[[Samples, NumberFormat], Range]] = {
    "minmax": _minmax,
    "ema": _ema,
    "percentile": _percentile,
    "mse": _mse,
    "kl": _kl,
    "lsq": _lsq,
}


# -- fix points ----------------------------------------------------------------------------------------------


def widest_fix_point(low: float, high: float, bits: int = 8) -> int:
    """Largest fix point at which [low, high] is not clipped; 18 for a tensor of zeros (docs/dpu.md 3.12).

    >>> widest_fix_point(0.0, 255.0)
    -1
    """
    step = max(low / (-(2 ** (bits - 1)) - 0.5), high / (2 ** (bits - 1) - 0.5))
    return 18 if step <= FINEST_STEP else int(np.floor(np.log2(1 / step)))


def _fit_fix_point(samples: Samples, format: NumberFormat, method: str) -> QuantParams:
    """Power-of-two scale: the widest for the method's range; `mse` and `kl` search from the widest for all values."""
    limits = (samples.low, samples.high) if method in ("mse", "kl") else METHODS[method](samples, format)
    first = widest_fix_point(float(limits[0].min()), float(limits[1].max()), format.bits)

    def error(point: int) -> float:
        return float(squared_error(samples, np.array([2.0**-point]), np.zeros(1), format)[0])

    tried = range(first, first + (SEARCH if method in ("mse", "kl") else 1))
    return _params(2.0 ** -min(tried, key=error), 0, format)
