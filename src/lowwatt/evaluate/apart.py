"""How far two backends' answers to the same image are apart, in what a user sees: scores and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.runtime.decode import DECODERS
from lowwatt.runtime.levels import levels_of
from lowwatt.types import Array

SEEN = 0.1
"""Boxes count where one side's score reaches this: those of anchors that see nothing are noise, and may be huge."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Greatest differences over all anchors: of scores, 0…1, and of the corners of boxes, in pixels of the input."""

    score: float = 0.0
    box: float = 0.0

    def __or__(self, other: Apart) -> Apart:
        """The greater of both."""
        return Apart(max(self.score, other.score), max(self.box, other.box))


def apart(graph: Graph, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Apart:
    """Of a detector's outputs of one image, before suppression; raw integers where the graph is quantized.

    >>> # apart(graph, open_backend("openvino", graph).run(image), open_backend("reference", graph).run(image))
    """
    boxes, scores = _decoded(graph, ours)
    other_boxes, other_scores = _decoded(graph, theirs)
    seen = np.maximum(scores, other_scores) >= SEEN
    return Apart(
        float(np.abs(scores - other_scores).max(initial=0)),
        float(np.abs(boxes[seen] - other_boxes[seen]).max(initial=0)),
    )


def _decoded(graph: Graph, outputs: Mapping[str, Array]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (N, 4) and scores (N,) of all anchors."""
    head = meta.head(graph)
    quants = {name: graph.tensor(name).quant for name in graph.outputs}
    parts = [DECODERS[head.kind].decode(level, np.float32(0)) for level in levels_of(outputs, quants, head)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
