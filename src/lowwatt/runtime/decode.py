"""Boxes, scores and labels of one stride, by kind of head: one `Decoder` each; `DECODERS` lists them.

They define the result. Everything behind sigmoid, exp, tanh and softmax is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.runtime.levels import Curve, Level, real, root, sigmoid, size, table, tanh
from lowwatt.types import Array

Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""xyxy (N, 4) in input pixels, score (N,), label (N,)."""


def yolox(level: Level, conf: np.float32) -> Found:
    """Anchors that reach `conf`, in their order (YOLOX, arXiv 2107.08430)."""
    height, width, _ = level.box.shape
    anchors = np.flatnonzero(_likely(level, conf))
    raw = level.classes.reshape(height * width, -1)[anchors]
    label = raw.argmax(axis=1).astype(np.int64)
    score = _probability(level, 0, raw[np.arange(len(raw)), label])
    score = score * _probability(level, 2, level.objectness.reshape(-1)[anchors])
    good = score >= conf
    anchors, label, score = anchors[good], label[good], score[good]
    return _yolox_boxes(level, anchors), score, label


def _likely(level: Level, conf: np.float32) -> NDArray[np.bool_]:
    """Anchors whose objectness reaches `conf` (a class is at most 1): an integer compare on raw values."""
    flat = level.objectness.reshape(-1)
    if level.quants is None:
        return sigmoid(flat) >= conf
    lowest = int(np.searchsorted(table(level.quants[2], sigmoid), conf)) - 128
    return flat.astype(np.int16) >= lowest


def _probability(level: Level, which: int, raw: Array) -> NDArray[np.float32]:
    if level.quants is None:
        return sigmoid(raw)
    return table(level.quants[which], sigmoid)[raw.astype(np.int16) + 128]


def _yolox_boxes(level: Level, anchors: NDArray[np.int64]) -> NDArray[np.float32]:
    """xyxy in input pixels: centre (d + cell) * stride, size exp(log) * stride."""
    raw = level.box.reshape(-1, 4)[anchors]
    values = raw if level.quants is None else table(level.quants[1], real)[raw.astype(np.int16) + 128]
    cells = _cells(level, anchors)
    stride = np.float32(level.stride)
    centre = (values[:, :2] + cells) * stride
    half = size(values[:, 2:]) * (stride * np.float32(0.5))
    return np.concatenate([centre - half, centre + half], axis=1)


def _cells(level: Level, anchors: NDArray[np.int64]) -> NDArray[np.float32]:
    """(column, row) of anchors."""
    columns = level.box.shape[1]
    return np.stack([anchors % columns, anchors // columns], axis=1).astype(np.float32)


def fastestdet(level: Level, conf: np.float32) -> Found:
    """Cells that reach `conf`, in their order (github.com/dog-qiuqiu/FastestDet, utils/tool.py, handle_preds)."""
    raw = (level.classes, level.box, level.objectness)
    classes, box, objectness = (_real(level, which, values) for which, values in enumerate(raw))
    classes = classes.reshape(-1, classes.shape[2])
    label = classes.argmax(axis=1).astype(np.int64)
    sure = (_greatest_share(classes) ** 0.4).astype(np.float32)
    score = root(objectness.reshape(-1)) * sure
    cells = np.flatnonzero(score >= conf)
    return _fastestdet_boxes(level, cells, box.reshape(-1, 4)[cells]), score[cells], label[cells]


def _fastestdet_boxes(level: Level, cells: NDArray[np.int64], box: Array) -> NDArray[np.float32]:
    """xyxy in input pixels: centre (tanh(d) + cell) * stride, size a share of the whole input."""
    stride = np.float32(level.stride)
    rows, columns, _ = level.box.shape
    centre = (tanh(box[:, :2]) + _cells(level, cells)) * stride
    half = sigmoid(box[:, 2:]) * (np.array([columns, rows], np.float32) * stride * np.float32(0.5))
    return np.concatenate([centre - half, centre + half], axis=1)


def _real(level: Level, which: int, values: Array) -> Array:
    return values if level.quants is None else level.quants[which].dequantize(values)


def _greatest_share(logits: Array) -> NDArray[np.float64]:
    """Softmax of the greatest logit of each row."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    share: NDArray[np.float64] = 1.0 / powers.sum(axis=1)
    return share


@dataclass(frozen=True, slots=True)
class Decoder:
    """One kind of head: the twin's function, and for the compiled core the curves of its channels."""

    decode: Callable[[Level, np.float32], Found]
    classes: Curve
    offset: Curve
    size: Curve
    objectness: Curve


DECODERS = {
    "yolox": Decoder(yolox, sigmoid, real, size, sigmoid),
    "fastestdet": Decoder(fastestdet, real, tanh, sigmoid, root),
}
"""`DetectionHead.kind` → how it is read."""
