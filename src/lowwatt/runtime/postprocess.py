"""From raw network outputs to boxes: threshold, decode, non-maximum suppression.

Two engines give the same boxes in the same order: the NumPy twin in this file, which defines the result, and
the compiled core, which is used where it is built. Sigmoid and exp are computed in double and rounded to
float32; everything after that is float32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, QuantParams

MAX_LOG_SIZE = 20.0
"""Logarithm of a box's size in cells is cut here, so that no garbage output can overflow float32."""

_Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Level:
    """Outputs of one stride, each (H, W, C): raw int8 where `quants` is set, else float32 logits."""

    stride: int
    classes: Array
    box: Array
    objectness: Array
    quants: tuple[QuantParams, QuantParams, QuantParams] | None


def postprocess(
    outputs: Mapping[str, Array],
    quants: Mapping[str, QuantParams | None],
    head: DetectionHead,
    box: Letterbox | None,
    *,
    conf: float = 0.01,
    iou: float = 0.65,
    max_det: int = 300,
    names: Sequence[str] = (),
    engine: Literal["auto", "core", "numpy"] = "auto",
) -> Detections:
    """Boxes of one image, best score first (ties: lower anchor index first).

    `outputs` are (1, H, W, C) or (H, W, C) by name: raw integers where `quants` holds the tensor's
    quantization, else float32 logits. An anchor's class is its greatest logit; its score
    sigmoid(class) * sigmoid(objectness) must reach `conf`. Greedy suppression within a class removes boxes
    whose IoU with a better one exceeds `iou`; at most `max_det` boxes stay. `box` maps them back to the
    source image; None leaves them in input pixels.

    Rule: YOLOX (arXiv 2107.08430) as in the LPCV 2021 winner's settings: .01, .65, 300.
    Raises ToolError where an output is absent or of another shape than the head says.

    >>> head = DetectionHead((8,), (("cls", "box", "obj"),), 1)
    >>> sure = np.full((1, 1, 2, 1), 9.0)
    >>> postprocess({"cls": sure, "box": np.zeros((1, 1, 2, 4)), "obj": sure}, {}, head, None).xyxy.tolist()
    [[-4.0, -4.0, 4.0, 4.0], [4.0, -4.0, 12.0, 4.0]]
    """
    levels = [_level(outputs, quants, head, index) for index in range(len(head.strides))]
    core = _core() if engine != "numpy" else None
    if engine == "core" and core is None:
        raise ToolError("the compiled core is not built", hint="install lowwatt with pip, or use engine='numpy'")
    found = _detect(levels, conf, iou, max_det) if core is None else _detect_core(core, levels, conf, iou, max_det)
    xyxy, score, label = found
    return Detections(xyxy if box is None else box.to_source(xyxy), score, label, tuple(names))


def _core() -> Any:
    try:
        from lowwatt import _core
    except ImportError:
        return None
    return _core


def _level(
    outputs: Mapping[str, Array], quants: Mapping[str, QuantParams | None], head: DetectionHead, index: int
) -> _Level:
    names = head.outputs[index]
    channels = (head.num_classes, 4, 1)
    values = [_output(outputs, name, count) for name, count in zip(names, channels, strict=True)]
    if len({value.shape[:2] for value in values}) != 1:
        raise ToolError("outputs of one stride differ in size", where=", ".join(names))
    found = [quants.get(name) for name in names]
    a, b, c = found
    if a and b and c and all(_is_int8(v, q) for v, q in zip(values, (a, b, c), strict=True)):
        return _Level(head.strides[index], values[0], values[1], values[2], (a, b, c))
    logits = [np.asarray(v, np.float32) if q is None else q.dequantize(v) for v, q in zip(values, found, strict=True)]
    return _Level(head.strides[index], logits[0], logits[1], logits[2], None)


def _output(outputs: Mapping[str, Array], name: str, channels: int) -> Array:
    if name not in outputs:
        raise ToolError("the network has no such output", where=name, why=f"it has {', '.join(outputs)}")
    value = outputs[name]
    plane = value[0] if value.ndim == 4 and value.shape[0] == 1 else value
    if plane.ndim != 3 or plane.shape[2] != channels:
        raise ToolError(
            "an output's shape does not fit the detection head",
            where=name,
            why=f"it is {value.shape}; (1, height, width, {channels}) is expected",
        )
    return np.ascontiguousarray(plane)


def _is_int8(value: Array, quant: QuantParams) -> bool:
    return value.dtype == np.int8 and quant.bits == 8 and quant.signed


# -- the numbers, shared by both engines --------------------------------------------------------------------


def _sigmoid(logits: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def _size(logs: Array) -> NDArray[np.float32]:
    return np.exp(np.minimum(logs.astype(np.float64), MAX_LOG_SIZE)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _table(quant: QuantParams, kind: Literal["real", "sigmoid", "size"]) -> NDArray[np.float32]:
    """float32 value of each int8, from -128 up."""
    real = quant.dequantize(np.arange(-128, 128))
    values = real if kind == "real" else _sigmoid(real) if kind == "sigmoid" else _size(real)
    values.setflags(write=False)
    return values


# -- the NumPy twin -----------------------------------------------------------------------------------------


def _detect(levels: Sequence[_Level], conf: float, iou: float, max_det: int) -> _Found:
    parts = [_candidates(level, np.float32(conf)) for level in levels]
    xyxy = np.concatenate([part[0] for part in parts])
    score = np.concatenate([part[1] for part in parts])
    label = np.concatenate([part[2] for part in parts])
    order = np.argsort(-score, kind="stable")
    xyxy, score, label = xyxy[order], score[order], label[order]
    keep = _suppress(xyxy, label, np.float32(iou), max_det)
    return xyxy[keep], score[keep], label[keep]


def _candidates(level: _Level, conf: np.float32) -> _Found:
    """Boxes (input pixels), scores and labels of the anchors that reach `conf`, in anchor order."""
    height, width, _ = level.box.shape
    anchors = np.flatnonzero(_likely(level, conf))
    raw = level.classes.reshape(height * width, -1)[anchors]
    label = raw.argmax(axis=1).astype(np.int64)
    score = _probability(level, 0, raw[np.arange(len(raw)), label])
    score = score * _probability(level, 2, level.objectness.reshape(-1)[anchors])
    good = score >= conf
    anchors, label, score = anchors[good], label[good], score[good]
    return _decode(level, anchors), score, label


def _likely(level: _Level, conf: np.float32) -> NDArray[np.bool_]:
    """Anchors whose objectness reaches `conf` (a class is at most 1): an integer compare on raw values."""
    flat = level.objectness.reshape(-1)
    if level.quants is None:
        return _sigmoid(flat) >= conf
    lowest = int(np.searchsorted(_table(level.quants[2], "sigmoid"), conf)) - 128
    return flat.astype(np.int16) >= lowest


def _probability(level: _Level, which: int, raw: Array) -> NDArray[np.float32]:
    if level.quants is None:
        return _sigmoid(raw)
    return _table(level.quants[which], "sigmoid")[raw.astype(np.int16) + 128]


def _decode(level: _Level, anchors: NDArray[np.int64]) -> NDArray[np.float32]:
    """xyxy in input pixels: centre (d + cell) * stride, size exp(log) * stride."""
    raw = level.box.reshape(-1, 4)[anchors]
    real = raw if level.quants is None else _table(level.quants[1], "real")[raw.astype(np.int16) + 128]
    cells = np.stack([anchors % level.box.shape[1], anchors // level.box.shape[1]], axis=1).astype(np.float32)
    stride = np.float32(level.stride)
    centre = (real[:, :2] + cells) * stride
    half = _size(real[:, 2:]) * (stride * np.float32(0.5))
    return np.concatenate([centre - half, centre + half], axis=1)


def _suppress(xyxy: NDArray[np.float32], label: NDArray[np.int64], iou: np.float32, max_det: int) -> NDArray[np.int64]:
    """Indices kept by greedy suppression within each class, of boxes already sorted by score."""
    area = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    alive = np.ones(len(xyxy), np.bool_)
    keep: list[int] = []
    for index in range(len(xyxy)):
        if len(keep) >= max_det:
            break
        if not alive[index]:
            continue
        keep.append(index)
        low = np.maximum(xyxy[index, :2], xyxy[index + 1 :, :2])
        high = np.minimum(xyxy[index, 2:], xyxy[index + 1 :, 2:])
        side = np.maximum(high - low, np.float32(0))
        common = side[:, 0] * side[:, 1]
        union = area[index] + area[index + 1 :] - common
        alive[index + 1 :] &= ~((common > iou * union) & (label[index + 1 :] == label[index]))
    return np.array(keep, np.int64)


# -- the compiled core --------------------------------------------------------------------------------------


def _detect_core(core: Any, levels: Sequence[_Level], conf: float, iou: float, max_det: int) -> _Found:
    found = core.Candidates(conf)
    for level in levels:
        planes = (level.stride, level.classes, level.box, level.objectness)
        if level.quants is None:
            found.add_float(*planes)
        else:
            classes, box, objectness = level.quants
            tables = (
                _table(classes, "sigmoid"),
                _table(box, "real"),
                _table(box, "size"),
                _table(objectness, "sigmoid"),
            )
            found.add_int8(*planes, *tables)
    xyxy, score, label = found.suppress(iou, max_det)
    return xyxy, score, label
