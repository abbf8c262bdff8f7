"""A loaded network of one output on a backend: an image in, real numbers out. Classifier and segmenter read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend
from lowwatt.ir import meta
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.letterbox import letterbox
from lowwatt.runtime.sources import Image, pixels_of
from lowwatt.types import Array, Letterbox


class ImageNetwork:
    """Pre-processing and inference; `output` names the one tensor that is read."""

    def __init__(self, graph: Graph, output: str, backend: str | Backend) -> None:
        self.graph, self.output, self.labels = graph, output, meta.labels(graph)
        self.preprocess = meta.preprocess(graph)
        self.backend = open_backend(backend, graph) if isinstance(backend, str) else backend
        self._quant = graph.tensor(output).quant
        quant = graph.tensor(graph.inputs[0]).quant
        self._grid = None if quant is None else quantize(np.arange(256.0), quant)

    def prepare(self, image: Image) -> tuple[Array, Letterbox]:
        """Values of the input (1, H, W, C), and where the image lies in it."""
        padded, box = letterbox(pixels_of(image, self.preprocess.channels), self.preprocess)
        values: Array = padded.astype(np.float32) if self._grid is None else self._grid[padded]
        return values[None], box

    def infer(self, prepared: tuple[Array, Letterbox]) -> tuple[NDArray[np.float32], Letterbox]:
        """Real numbers of the output, without its first axis."""
        values, box = prepared
        found = self.backend.run({self.graph.inputs[0]: values})[self.output][0]
        return found.astype(np.float32) if self._quant is None else self._quant.dequantize(found), box
