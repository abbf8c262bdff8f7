"""The number rules, table by table (docs/dpu.md 3)."""

from __future__ import annotations

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir import arithmetic
from lowwatt.types import QuantParams

Q = QuantParams.power_of_two
INPUTS = [-128.5, -127.5, -3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 126.5, 127.5]
ROUNDED = {  # measured on the vendor's runner, docs/dpu.md 3.1
    "DPU_ROUND": [-128, -127, -3, -2, -1, 0, 1, 2, 3, 4, 127, 127],
    "STD_ROUND": [-128, -128, -4, -3, -2, -1, 1, 2, 3, 4, 127, 127],
    "PY3_ROUND": [-128, -128, -4, -2, -2, 0, 0, 2, 2, 4, 126, 127],
}


@pytest.mark.parametrize("mode", ROUNDED)
def test_quantize_rounds_and_saturates(mode: str) -> None:
    values = arithmetic.quantize(np.array(INPUTS, np.float32), Q(0), mode)
    assert values.dtype == np.int8
    assert values.tolist() == ROUNDED[mode]


@pytest.mark.parametrize(
    ("quant", "real", "expected"),
    [
        (Q(3), [0.06, 0.0625, -0.0625], [0, 1, 0]),
        (Q(-2), [6.0, 5.9, -6.0, 1e9], [2, 1, -1, 127]),
        (Q(4, bits=16), [100.03], [1600]),
        (QuantParams(0.1, 128, 8, signed=False), [-12.8, 0.0, 50.0], [0, 128, 255]),
    ],
)
def test_quantize_formats(quant: QuantParams, real: list[float], expected: list[int]) -> None:
    assert arithmetic.quantize(np.array(real), quant).tolist() == expected


def test_quantize_refuses() -> None:
    with pytest.raises(ToolError, match="round_mode"):
        arithmetic.quantize(np.zeros(1), Q(0), "NO_ROUND")
    with pytest.raises(ToolError, match="cannot quantize"):
        arithmetic.quantize(np.array([np.nan]), Q(0))


def test_requantize_is_the_shift_of_the_integer_form() -> None:
    """R(v / 2**s) = (v + 2**(s-1)) >> s for s > 0, v << -s otherwise, then saturated (3.1)."""
    v = np.arange(-70000, 70000, 7)
    for s in range(-3, 14):
        shifted = (v + (1 << (s - 1))) >> s if s > 0 else v << -s
        ours = arithmetic.requantize(np.ldexp(v.astype(np.float64), -s), Q(0))
        np.testing.assert_array_equal(ours, np.clip(shifted, -128, 127))


def test_bias_is_floored_to_half_an_accumulator_step() -> None:
    acc, bias = np.array([10.0]), np.array([-3])
    # shift_bias -2: 2 * -3 / 4 = -1.5, floored to -2; a = 20 - 2 = 18; cut 1: t = 18 / 4
    assert arithmetic.add_bias(acc, bias, -2, 1).tolist() == [4.5]
    assert arithmetic.add_bias(acc, None, 0, 1).tolist() == [5.0]


@pytest.mark.parametrize(("q", "fi", "aligned"), [(5, 4, 20), (5, 7, 2), (-5, 7, -3), (-1, 12, -1), (1, 12, 0)])
def test_addition_keeps_two_guard_bits(q: int, fi: int, aligned: int) -> None:
    assert arithmetic.align_for_add(np.array([q]), fi, 4).tolist() == [aligned]


@pytest.mark.parametrize(
    ("kernel", "numerator", "denominator"),
    [
        ((1, 1), 1, 1),
        ((2, 2), 1, 4),
        ((3, 3), 7, 64),
        ((4, 4), 1, 16),
        ((5, 5), 10, 256),
        ((6, 6), 7, 256),
        ((7, 7), 21, 1024),
        ((8, 8), 1, 64),
        ((10, 10), 41, 4096),
        ((13, 13), 97, 16384),
        ((14, 14), 21, 4096),
        ((20, 20), 41, 16384),
        ((6, 3), 57, 1024),
    ],
)
def test_average_factor(kernel: tuple[int, int], numerator: int, denominator: int) -> None:
    factor, digits = arithmetic.dpu_average_factor(kernel)
    assert (factor, 1 << digits) == (numerator, denominator)


def test_hard_sigmoid_saturates_at_127() -> None:
    values = np.arange(-128, 128)
    out = arithmetic.hard_sigmoid(values, 4, Q(7))
    assert out.min() == 0 and out.max() == 127
    exact = np.clip(values / 16 / 6 + 0.5, 0, 1) * 128
    assert np.abs(out - np.minimum(exact, 127)).max() <= 0.51


def test_hard_sigmoid_needs_fix_point_7() -> None:
    with pytest.raises(ToolError, match="fix point of 7"):
        arithmetic.hard_sigmoid(np.zeros(1), 4, Q(6))


def test_hard_swish_is_the_product_with_the_rounded_gate() -> None:
    values = np.arange(-128, 128)
    gate = arithmetic.hard_sigmoid(values, 4, Q(7))
    expected = np.clip((values * gate + 64) >> 7, -128, 127)
    np.testing.assert_array_equal(arithmetic.hard_swish(values, 4, Q(4)), expected)
