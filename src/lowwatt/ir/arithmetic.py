"""The number rules of the DPU, one function each.

Integer q at fix point f means q * 2**-f. fi, fw, fb, fo are the fix points of input, weights, bias and output.
R(x) = floor(x + 0.5), then saturation. Numbers in brackets are sections of docs/dpu.md; the rules are checked
against the vendor's open CPU reference runner (the golden vectors).

Values on the way are float64 that hold integers, or integers over a power of two, exactly: 8-bit operands stay far
below 2**53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.types import Array, QuantParams

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]

HARD_SIGMOID_SLOPE = 2731
"""1/6 as the DPU has it: 2731 / 2**14 (3.7)."""

HARD_SIGMOID_FIX_POINT = 7
"""Least fix point of a hard-sigmoid's output: its upper limit of 1 comes from saturation at 127/128 (3.7)."""

ACCUMULATOR_LIMIT = 1 << 30
"""|acc| must stay below: the accumulator has 32 bits and is doubled (3.2)."""

_AVERAGE_TABLE = {(3, 3): (7, 6), (5, 5): (10, 8), (6, 6): (7, 8), (7, 7): (21, 10), (14, 14): (21, 12)}


def round_half_up(x: Reals) -> Reals:
    """DPU_ROUND: ties toward plus infinity (-1.5 → -1, -0.5 → 0, 0.5 → 1)."""
    return np.floor(x + 0.5)


def round_half_away(x: Reals) -> Reals:
    """STD_ROUND: ties away from zero, as C's round (-1.5 → -2, 0.5 → 1)."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def round_half_even(x: Reals) -> Reals:
    """PY3_ROUND: ties to the even neighbour (-1.5 → -2, 0.5 → 0)."""
    return np.rint(x)


ROUNDINGS: dict[str, Callable[[Reals], Reals]] = {
    "DPU_ROUND": round_half_up,
    "STD_ROUND": round_half_away,
    "PY3_ROUND": round_half_even,
}


def saturate(x: Reals, quant: QuantParams) -> Integers:
    """Whole numbers, clipped to the tensor's range."""
    return np.clip(x, quant.qmin, quant.qmax).astype(np.int64)


def requantize(t: Reals, quant: QuantParams) -> Integers:
    """R(t): the one rounding that ends every operator; `t` is in steps of the output."""
    return saturate(round_half_up(t), quant)


def quantize(x: Array, quant: QuantParams, round_mode: str | None = None) -> Array:
    """Integers (the tensor's own dtype) of real values: round(x / scale) + zero_point, saturated.

    They round as the tensor's format says, or by `round_mode`. The quotient is float32, as ONNX's QuantizeLinear has
    it: between scales of a simple ratio many values lie on a half, and fall to the side that runtimes choose. By a
    power of two it is exact, and is taken in float64.

    >>> quantize(np.array([-0.5, 0.5, 300.0]), QuantParams.power_of_two(0)).tolist()
    [0, 1, 127]
    """
    mode = round_mode or quant.rounding
    if mode not in ROUNDINGS:
        raise ToolError(f"unknown round_mode {mode!r}", hint=f"known: {', '.join(ROUNDINGS)}")
    if np.isnan(x).any():
        raise ToolError("cannot quantize the values", why="some are not a number (NaN)")
    wide = np.float64 if quant.is_power_of_two else np.float32
    steps = ROUNDINGS[mode]((np.asarray(x, wide) / quant.step(np.ndim(x)).astype(wide)).astype(np.float64))
    return saturate(steps + quant.zeros(np.ndim(x)), quant).astype(integer_type(quant))


def integer_type(quant: QuantParams) -> np.dtype[Any]:
    """NumPy type that holds the tensor's integers."""
    return np.dtype(quant.dtype)


def shift(values: Array, digits: int) -> Reals:
    """values * 2**digits, exactly."""
    return np.ldexp(values.astype(np.float64), digits)


def move(values: Array, fi: int, quant: QuantParams) -> Integers:
    """R(q * 2**(fo - fi)): copy to another fix point (3.4: concat, slice, nearest, max pool)."""
    return requantize(shift(values, quant.fix_point - fi), quant)


def shift_cut(fi: int, fw: int, fo: int) -> int:
    """Digits that a convolution cuts from its accumulator (3.2)."""
    return fi + fw - fo


def shift_bias(fi: int, fw: int, fb: int) -> int:
    """Digits by which a convolution shifts its bias to meet the accumulator; may be negative (3.2)."""
    return fi + fw - fb


def add_bias(acc: Reals, bias: Array | None, digits: int, cut: int) -> Reals:
    """Unrounded t of a convolution, in output steps (3.2).

    a = 2*acc + floor(2*bias*2**digits), t = a / 2**(cut + 1): the bias is floored to half an accumulator step.
    """
    doubled = 2 * acc.astype(np.float64)
    if bias is not None:
        doubled = doubled + np.floor(shift(bias, digits + 1))
    return np.ldexp(doubled, -(cut + 1))


def align_for_add(values: Array, fi: int, lowest: int) -> Reals:
    """floor(4 * q / 2**(fi - lowest)): an operand of an addition, with two guard bits (3.3)."""
    return np.floor(shift(values, 2 - (fi - lowest)))


def dpu_average_factor(kernel: tuple[int, int]) -> tuple[int, int]:
    """(N, M): the DPU multiplies the sum of a window (height, width) by N / 2**M.

    >>> dpu_average_factor((3, 3)), dpu_average_factor((2, 2)), dpu_average_factor((10, 10))
    ((7, 6), (1, 2), (41, 12))
    """
    return _AVERAGE_TABLE.get(kernel) or reciprocal(kernel[0] * kernel[1])


def reciprocal(count: int) -> tuple[int, int]:
    """(N, M) with N / 2**M near 1 / count: M below ceil(log2(count * 128)), the first with the least error.

    Errors are compared as whole numbers |N * count - 2**M| / 2**M, so that equal ones are equal.
    """
    best, best_error = (0, 0), 1
    for digits in range(math.ceil(math.log2(count * 128))):
        factor = math.floor((1 << digits) / count + 0.5)
        error = abs(factor * count - (1 << digits))
        if error << best[1] < best_error << digits:
            best, best_error = (factor, digits), error
    return best


def hard_sigmoid(values: Array, fi: int, quant: QuantParams) -> Integers:
    """R(max(0, q*2731 + 3*2731*2**fi) / 2**(14 + fi - fo)), fo at least 7; saturation is the upper limit."""
    if quant.fix_point < HARD_SIGMOID_FIX_POINT:
        raise ToolError(
            "hard_sigmoid needs an output fix point of 7",
            why=f"it is {quant.fix_point}: the upper limit of 1 would not be kept",
        )
    line = HARD_SIGMOID_SLOPE * (values.astype(np.float64) + math.ldexp(3.0, fi))
    return requantize(np.ldexp(np.clip(line, 0, 2.0**32), quant.fix_point - 14 - fi), quant)


def hard_swish(values: Array, fi: int, quant: QuantParams) -> Integers:
    """q times its hard-sigmoid at fix point 7: R(q * h / 2**(fi + 7 - fo))."""
    gate = hard_sigmoid(values, fi, QuantParams.power_of_two(HARD_SIGMOID_FIX_POINT))
    product = values.astype(np.float64) * gate
    return requantize(np.ldexp(product, quant.fix_point - fi - HARD_SIGMOID_FIX_POINT), quant)
