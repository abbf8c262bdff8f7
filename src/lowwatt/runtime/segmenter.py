"""Segmenter: a loaded network on a backend, from images to the class of every pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.network import ImageNetwork
from lowwatt.types import Letterbox


class Segmenter(ImageNetwork[NDArray[np.uint8]]):
    """A segmenter that is ready to run: segmenter("street.jpg") gives uint8 (H, W), the class of each pixel.

    ToolError for a graph that is no segmenter.
    """

    def __init__(self, graph: Graph, backend: str | Backend = "core") -> None:
        head = meta.segmenter(graph)
        if head is None:
            raise ToolError("the graph is no segmenter", where=graph.name, why="its description of itself names none")
        super().__init__(graph, head.output, backend)
        self.head = head

    def answer(self, numbers: NDArray[np.float32], box: Letterbox) -> NDArray[np.uint8]:
        """Classes of the pixels."""
        return class_map(numbers, box)


def class_map(scores: NDArray[np.float32], box: Letterbox) -> NDArray[np.uint8]:
    """Class of each pixel of the source, uint8 (H, W), from the numbers (h, w, classes) of the input's cells.

    The numbers are brought to the source's size bilinearly, and the greatest wins: edges come out finer than from
    cells that have chosen already.
    """
    import cv2

    height, width = box.size
    rows, columns = box.resized
    enlarged = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    shown = enlarged[box.top : box.top + rows, box.left : box.left + columns]
    scaled = cv2.resize(shown, box.source[::-1], interpolation=cv2.INTER_LINEAR)
    classes: NDArray[np.uint8] = scaled.reshape(*box.source, -1).argmax(2).astype(np.uint8)
    return classes
