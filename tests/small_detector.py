"""A detector that needs no training: it sees bright cells of 8 x 8 pixels in a gray image of 32 x 48."""

from __future__ import annotations

import numpy as np

from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.types import DetectionHead, Preprocess, QuantParams

HEIGHT, WIDTH = 32, 48
LABELS = ("lamp", "cat")


def small_detector(quantized: bool = True) -> Graph:
    """One convolution an output: objectness is the cell's brightness, the box the cell, the class always lamp."""
    graph = Graph("bright cells")
    graph.add_input("images", (1, HEIGHT, WIDTH, 1), QuantParams.power_of_two(-1) if quantized else None)
    _output(graph, "cls", np.zeros((2, 8, 8, 1)), [5.0, -5.0], quantized)
    _output(graph, "box", np.zeros((4, 8, 8, 1)), [0.5, 0.5, 0.0, 0.0], quantized)
    _output(graph, "obj", np.full((1, 8, 8, 1), 1 / 128), [-60.0], quantized)
    graph.outputs = ["cls", "box", "obj"]
    meta.set_preprocess(graph, Preprocess((HEIGHT, WIDTH), 1))
    meta.set_head(graph, DetectionHead((8,), (("cls", "box", "obj"),), 2), LABELS, (1, 17))
    return graph


def _output(graph: Graph, name: str, weights: np.ndarray, bias: list[float], quantized: bool) -> None:
    """One convolution over the image; integers at fix points that hold its numbers exactly."""
    point = 0 if name == "obj" else 4
    parts = []
    for suffix, real, fix in (("w", weights, 7), ("b", np.array(bias), point)):
        quant = QuantParams.power_of_two(fix)
        data = np.rint(real / quant.scale).astype(np.int8) if quantized else real.astype(np.float32)
        parts.append(graph.add_constant(f"{name}_{suffix}", data, quant if quantized else None))
    quant = QuantParams.power_of_two(point) if quantized else None
    graph.add("conv2d", ["images", *parts], name, stride=(8, 8), quant=quant)


def picture(*cells: tuple[int, int], size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Dark gray image (H, W) with the given cells (row, column) white."""
    image = np.zeros(size, np.uint8)
    for row, column in cells:
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    return image
