"""From pixels to the numbers that the network takes, without a copy in float."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir import meta
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.letterbox import inside, scale_to_fit
from lowwatt.types import Array, Letterbox


class NetworkInput:
    """What a network takes: `preprocess`, and the number that stands for each of a pixel's 256 values.

    The scale of a quantized input is in that table, so that int8 goes straight from the scaled image to the network.
    """

    def __init__(self, graph: Graph) -> None:
        self.name = graph.inputs[0]
        self.preprocess = meta.preprocess(graph)
        quant, pixels = graph.tensor(self.name).quant, np.arange(256, dtype=np.float32)
        self.table: Array = pixels if quant is None else quantize(pixels, quant)

    def allocate(self) -> InputBuffer:
        """Room for one image."""
        return InputBuffer(self)


class InputBuffer:
    """Room for one image, allocated once and filled again and again: `values` is (1, H, W, C)."""

    def __init__(self, network: NetworkInput) -> None:
        self._network = network
        shape = (*network.preprocess.size, network.preprocess.channels)
        self.values: Array = np.empty((1, *shape), network.table.dtype)
        self._scaled: NDArray[np.uint8] = np.empty(self.values.size, np.uint8)

    def fill(self, pixels: NDArray[np.uint8]) -> Letterbox:
        """Letterbox an image, uint8 (H, W) or (H, W, C), into `values`; gives the map that brings boxes back."""
        import cv2

        preprocess, table = self._network.preprocess, self._network.table
        scaled, box = scale_to_fit(pixels, preprocess, self._scaled)
        self.values.fill(table[preprocess.pad_value])
        cv2.LUT(scaled, table, dst=inside(self.values[0], box))
        return box
