"""Padding and quantizing in one pass: the same integers as letterbox, then the table; memory is used again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.ir.arithmetic import quantize
from lowwatt.letterbox import letterbox
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.types import Array, Preprocess, QuantParams

FORMATS = (
    None,
    QuantParams.power_of_two(-1),
    QuantParams(1.0, -128),
    QuantParams(1.0, 0, signed=False),
    QuantParams(0.01, bits=16),
)


def expected(image: Array, preprocess: Preprocess, quant: QuantParams | None) -> Array:
    padded, _ = letterbox(image, preprocess)
    real = padded[None].astype(np.float32)
    return real if quant is None else quantize(real.astype(np.float64), quant).astype(quant.dtype)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    source=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    given_channels=st.sampled_from([0, 1, 3]),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["letterbox", "stretch", "crop"]),
    centre=st.booleans(),
    quant=st.sampled_from(FORMATS),
    engine=st.sampled_from(["auto", "numpy"]),
)
def test_the_integers_of_the_letterbox(
    seed: int,
    source: tuple[int, int],
    size: tuple[int, int],
    given_channels: int,
    channels: int,
    fit: str,
    centre: bool,
    quant: QuantParams | None,
    engine: str,
) -> None:
    shape = (*source, given_channels) if given_channels else source
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    preprocess = Preprocess(size, channels, 114, centre, fit)  # type: ignore[arg-type]
    ready = Preprocessor(preprocess, quant, engine=engine)  # type: ignore[arg-type]
    out = ready.buffer()
    out[...] = 77
    values, box = ready(image, out)
    assert values is out and box == letterbox(image, preprocess)[1]
    assert values.dtype == (np.float32 if quant is None else quant.dtype)
    np.testing.assert_array_equal(values, expected(image, preprocess, quant))


def test_a_strided_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)[::-1, ::2]
    preprocess = Preprocess((32, 40), 3)
    values, _ = Preprocessor(preprocess, FORMATS[1])(image)
    np.testing.assert_array_equal(values, expected(image, preprocess, FORMATS[1]))


@pytest.mark.parametrize("shape", [(4, 4, 1), (8, 8, 3), (7, 9, 1)])
def test_the_core_refuses_an_image_that_does_not_fit(shape: tuple[int, int, int]) -> None:
    core = pytest.importorskip("lowwatt._core")
    out, table = np.zeros((8, 8, 1), np.int8), np.zeros(256, np.int8)
    with pytest.raises(ValueError, match=r"fit|channels"):
        core.pad_quantize(np.zeros(shape, np.uint8), table, 0, out, 5, 0)
