"""Accumulators against plain integer loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.accumulate import convolve, convolve_depthwise, convolve_transposed, multiply


def _slow(x, w, stride, pad, dilation):
    """acc[n, i, j, o] by the definition, in Python integers."""
    padded = np.pad(x.astype(np.int64), ((0, 0), pad[:2], pad[2:], (0, 0)))
    out, kh, kw, _ = w.shape
    rows = (padded.shape[1] - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (padded.shape[2] - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    acc = np.zeros((len(x), rows, columns, out), np.int64)
    for n, i, j, o in itertools.product(range(len(x)), range(rows), range(columns), range(out)):
        for a, b in itertools.product(range(kh), range(kw)):
            pixel = padded[n, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]]
            acc[n, i, j, o] += int(pixel @ w[o, a, b].astype(np.int64))
    return acc


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) * sum(shape)).integers(-128, 128, shape, dtype=np.int8)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((3, 2), (2, 1), (0, 2, 1, 0), (1, 1)),
        ((3, 3), (2, 2), (2, 2, 2, 2), (2, 3)),
    ],
)
def test_convolve(kernel, stride, pad, dilation) -> None:
    x, w = _random(2, 7, 8, 5), _random(4, *kernel, 5)
    np.testing.assert_array_equal(convolve(x, w, stride, pad, dilation, 1), _slow(x, w, stride, pad, dilation))


def test_groups_split_the_channels() -> None:
    x, w = _random(1, 5, 5, 6), _random(4, 3, 3, 3)
    acc = convolve(x, w, (1, 1), (1, 1, 1, 1), (1, 1), 2)
    for g in range(2):
        part = _slow(x[..., 3 * g : 3 * g + 3], w[2 * g : 2 * g + 2], (1, 1), (1, 1, 1, 1), (1, 1))
        np.testing.assert_array_equal(acc[..., 2 * g : 2 * g + 2], part)


def test_depthwise_channel_order_is_channel_times_mult() -> None:
    x, w = _random(1, 5, 6, 3), _random(2, 3, 3, 3)
    acc = convolve_depthwise(x, w, (1, 2), (1, 1, 1, 1), (1, 1))
    for c, m in itertools.product(range(3), range(2)):
        one = _slow(x[..., c : c + 1], w[m : m + 1, :, :, c : c + 1], (1, 2), (1, 1, 1, 1), (1, 1))
        np.testing.assert_array_equal(acc[..., c * 2 + m], one[..., 0])


@pytest.mark.parametrize(("kernel", "stride", "pad"), [((4, 4), (2, 2), 1), ((2, 2), (2, 2), 0), ((1, 1), (2, 3), 1)])
def test_transposed_is_the_adjoint(kernel, stride, pad) -> None:
    """<transposed(x), y> = <x, conv(y)> with the weights flipped and their channels swapped."""
    x, w = _random(1, 4, 5, 3), _random(2, *kernel, 3)
    acc = convolve_transposed(x, w, stride, (pad,) * 4)
    y = np.random.default_rng(0).integers(-9, 9, acc.shape)
    forward = np.flip(w, (1, 2)).transpose(3, 1, 2, 0)
    conv = _slow(y, forward, stride, (pad,) * 4, (1, 1))
    assert (acc * y).sum() == (x.astype(np.int64) * conv).sum()


@pytest.mark.parametrize("terms", [1024, 1025, 5000])
def test_sums_are_exact_at_the_extremes(terms: int) -> None:
    x, w = np.full((1, terms), -128, np.int8), np.full((2, terms), -128, np.int8)
    w[1, -1] = 127
    assert multiply(x, w).tolist() == [[terms * 16384, terms * 16384 - 128 * 255]]


def test_the_accumulator_may_not_overflow() -> None:
    wide = np.full((1, 1 << 16), -128, np.int8)
    with pytest.raises(ToolError, match="accumulator overflows"):
        multiply(wide, wide)
    assert multiply(wide, np.ones_like(wide)).item() == -128 << 16


def test_operands_too_wide_are_refused() -> None:
    with pytest.raises(ToolError, match="too wide"):
        multiply(np.array([[1 << 40]]), np.array([[1 << 40]]))
