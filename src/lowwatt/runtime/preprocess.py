"""From pixels to the network's input: scale, then pad and quantize in one pass, into memory that is used again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir.arithmetic import quantize
from lowwatt.letterbox import scale_to_fit
from lowwatt.runtime.core import Ends, choose
from lowwatt.types import Array, Letterbox, Preprocess, QuantParams


class Preprocessor:
    """The input of one network from uint8 images; `quant` is that of the input, None for float32.

    A pixel has 256 values, so that quantizing is a table. OpenCV scales: its integers are those that the network was
    trained on. One object may be used by several threads, each with its own `out`.

    >>> ready = Preprocessor(Preprocess((2, 4), 1, pad_value=9), QuantParams.power_of_two(-1))
    >>> values, box = ready(np.full((4, 4), 200, np.uint8))
    >>> values.dtype.name, values[0, :, :, 0].tolist()
    ('int8', [[100, 100, 5, 5], [100, 100, 5, 5]])
    """

    def __init__(self, preprocess: Preprocess, quant: QuantParams | None, *, engine: Ends = "auto") -> None:
        self._preprocess = preprocess
        every = np.arange(256.0)
        self._table: Array = every.astype(np.float32) if quant is None else quantize(every, quant).astype(quant.dtype)
        self._core = choose(engine) if self._table.itemsize == 1 else None

    def buffer(self) -> Array:
        """Memory for one input, (1, H, W, C) of the input's type, not yet written."""
        return np.empty((1, *self._preprocess.size, self._preprocess.channels), self._table.dtype)

    def __call__(self, pixels: NDArray[np.uint8], out: Array | None = None) -> tuple[Array, Letterbox]:
        """Input (1, H, W, C) and the map that brings boxes back, of an image as `letterbox` takes it.

        `out` is a `buffer`, written whole and returned; without it the input is new.
        """
        scaled, box = scale_to_fit(pixels, self._preprocess)
        values = self.buffer() if out is None else out
        if self._core is None:
            values[...] = self._table[self._preprocess.pad_value]
            box.inside(values[0])[...] = self._table[scaled]
        else:
            table, plane = self._table.view(np.int8), values[0].view(np.int8)
            self._core.pad_quantize(scaled, table, self._preprocess.pad_value, plane, box.top, box.left)
        return values, box
