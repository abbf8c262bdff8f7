"""Classifier: a loaded network on a backend, from images to one number a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.network import ImageNetwork
from lowwatt.types import Letterbox


class Classifier(ImageNetwork[NDArray[np.float32]]):
    """A classifier that is ready to run: classifier("photo.jpg") gives float32 (classes,), greatest for the likeliest.

    ToolError for a graph that is no classifier.
    """

    def __init__(self, graph: Graph, backend: str | Backend = "core") -> None:
        head = meta.classifier(graph)
        if head is None:
            raise ToolError("the graph is no classifier", where=graph.name, why="its description of itself names none")
        super().__init__(graph, head.output, backend)
        self.head = head

    def answer(self, numbers: NDArray[np.float32], box: Letterbox) -> NDArray[np.float32]:
        """Numbers of the classes."""
        return numbers.reshape(-1)
