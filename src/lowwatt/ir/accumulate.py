"""Sums of products: what a convolution's accumulator holds. Of small integers they are exact, of real values float64.

Floating-point matrix products of integers are exact while every partial sum fits the mantissa, and BLAS makes
them many times faster than NumPy's integer loops: float32 for short sums of 8-bit values, float64 else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import ACCUMULATOR_LIMIT, Reals
from lowwatt.types import Array

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def convolve(x: Array, weights: Array, stride: Pair, pad: Pads, dilation: Pair, group: int) -> Reals:
    """acc (N, H', W', out) of maps (N, H, W, in) and weights (out, kh, kw, in/group)."""
    maps, filters = np.split(x, group, axis=3), np.split(weights, group)
    parts = [_convolve(m, f, stride, pad, dilation) for m, f in zip(maps, filters, strict=True)]
    return parts[0] if group == 1 else np.concatenate(parts, axis=3)


def _convolve(x: Array, weights: Array, stride: Pair, pad: Pads, dilation: Pair) -> Reals:
    out, kh, kw, channels = weights.shape
    kind = _exact_type(x, weights, kh * kw * channels)
    filters = weights.astype(kind)
    acc = 0
    for i, j, tap in _taps(x.astype(kind), (kh, kw), stride, pad, dilation):
        acc = acc + (tap.reshape(-1, channels) @ filters[:, i, j].T).reshape(*tap.shape[:3], out)
    return _checked(np.asarray(acc, np.float64), kh * kw * channels, x)


def convolve_depthwise(x: Array, weights: Array, stride: Pair, pad: Pads, dilation: Pair) -> Reals:
    """acc (N, H', W', C*mult), channel c*mult + m, of maps (N, H, W, C) and weights (mult, kh, kw, C)."""
    mult, kh, kw, channels = weights.shape
    kind = _exact_type(x, weights, kh * kw)
    filters = weights.astype(kind).transpose(1, 2, 3, 0)
    acc = 0
    for i, j, tap in _taps(x.astype(kind), (kh, kw), stride, pad, dilation):
        acc = acc + tap[..., None] * filters[i, j]
    sums = np.asarray(acc, np.float64)
    return _checked(sums.reshape(*sums.shape[:3], channels * mult), kh * kw, x)


def convolve_transposed(x: Array, weights: Array, stride: Pair, pad: Pads) -> Reals:
    """acc of a transposed convolution: zeros between the inputs, padded by kernel - 1 - pad, correlated.

    Weights (out, kh, kw, in) are stored flipped, so that nothing is flipped here (docs/dpu.md 4.3).
    """
    batch, height, width, channels = x.shape
    kh, kw = weights.shape[1:3]
    spread = np.zeros((batch, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, channels), x.dtype)
    spread[:, :: stride[0], :: stride[1]] = x
    top, bottom, left, right = kh - 1 - pad[0], kh - 1 - pad[1], kw - 1 - pad[2], kw - 1 - pad[3]
    cut = spread[:, max(-top, 0) : spread.shape[1] - max(-bottom, 0), max(-left, 0) : spread.shape[2] - max(-right, 0)]
    rest = max(top, 0), max(bottom, 0), max(left, 0), max(right, 0)
    return _convolve(cut, weights, (1, 1), rest, (1, 1))


def multiply(x: Array, weights: Array) -> Reals:
    """acc (..., out) of vectors (..., in) and weights (out, in)."""
    kind = _exact_type(x, weights, weights.shape[1])
    return _checked(np.matmul(x.astype(kind), weights.astype(kind).T).astype(np.float64), weights.shape[1], x)


def _taps(x: Array, kernel: Pair, stride: Pair, pad: Pads, dilation: Pair) -> Iterator[tuple[int, int, Array]]:
    """For each kernel position (row, column), the input value that it meets at each output position."""
    padded = np.pad(x, ((0, 0), pad[:2], pad[2:], (0, 0)))
    rows = (padded.shape[1] - (kernel[0] - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (padded.shape[2] - (kernel[1] - 1) * dilation[1] - 1) // stride[1] + 1
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield (
                i,
                j,
                padded[
                    :,
                    top : top + (rows - 1) * stride[0] + 1 : stride[0],
                    left : left + (columns - 1) * stride[1] + 1 : stride[1],
                ],
            )


def _exact_type(x: Array, weights: Array, terms: int) -> type[np.float32] | type[np.float64]:
    """Float type whose mantissa holds every partial sum of `terms` products of integers; float64 for real values."""
    if _is_real(x):
        return np.float64
    largest = int(np.abs(x, dtype=np.int64).max(initial=0)) * int(np.abs(weights, dtype=np.int64).max(initial=0))
    if largest * terms >= 1 << 53:
        raise ToolError("the operands are too wide for an exact sum", why=f"{terms} products of up to {largest}")
    return np.float32 if largest * terms <= 1 << 24 else np.float64


def _is_real(x: Array) -> bool:
    return np.issubdtype(x.dtype, np.floating)


def _checked(acc: Reals, terms: int, x: Array) -> Reals:
    """The sums themselves; ToolError where the DPU's accumulator would overflow."""
    if not _is_real(x) and terms << 14 >= ACCUMULATOR_LIMIT and np.abs(acc).max(initial=0) >= ACCUMULATOR_LIMIT:
        raise ToolError("the accumulator overflows", why=f"a sum of {terms} products reaches 2**30")
    return acc
