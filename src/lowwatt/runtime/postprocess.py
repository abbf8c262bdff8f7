"""From raw network outputs to boxes: threshold, decode, non-maximum suppression.

Two engines give the same boxes in the same order: the NumPy twin (`decode.py` and this file), which defines the result,
and the compiled core, which is used for YOLOX heads where it is built. Sigmoid and exp are computed in double and
rounded to float32; everything after that is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.runtime.decode import DECODERS, Found
from lowwatt.runtime.levels import Level, levels_of, table
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, QuantParams

CORES_KIND = "yolox"
"""The kind of head that the compiled core decodes."""


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
    quantization, else float32 logits. An anchor's class is its greatest logit; its score (for YOLOX
    sigmoid(class) * sigmoid(objectness)) must reach `conf`. Greedy suppression within a class removes boxes
    whose IoU with a better one exceeds `iou`; at most `max_det` boxes stay. `box` maps them back to the
    source image; None leaves them in input pixels.

    Rule: YOLOX (arXiv 2107.08430) as in the LPCV 2021 winner's settings: .01, .65, 300.
    Raises ToolError where an output is absent or of another shape than the head says.

    >>> head = DetectionHead((8,), (("cls", "box", "obj"),), 1)
    >>> sure = np.full((1, 1, 2, 1), 9.0)
    >>> postprocess({"cls": sure, "box": np.zeros((1, 1, 2, 4)), "obj": sure}, {}, head, None).xyxy.tolist()
    [[-4.0, -4.0, 4.0, 4.0], [4.0, -4.0, 12.0, 4.0]]
    """
    levels = levels_of(outputs, quants, head)
    core = _core() if engine != "numpy" and head.kind == CORES_KIND else None
    if engine == "core" and core is None:
        why = "it is not built" if head.kind == CORES_KIND else f"it does not know {head.kind} heads"
        raise ToolError("the compiled core cannot decode this", why=why, hint="use engine='numpy'")
    if core is not None:
        xyxy, score, label = _detect_core(core, levels, conf, iou, max_det)
    else:
        xyxy, score, label = _detect(levels, DECODERS[head.kind], conf, iou, max_det)
    return Detections(xyxy if box is None else box.to_source(xyxy), score, label, tuple(names))


def _core() -> Any:
    try:
        from lowwatt import _core
    except ImportError:
        return None
    return _core


# -- the NumPy twin -----------------------------------------------------------------------------------------


def _detect(
    levels: Sequence[Level], decode: Callable[[Level, np.float32], Found], conf: float, iou: float, max_det: int
) -> Found:
    parts = [decode(level, np.float32(conf)) for level in levels]
    xyxy = np.concatenate([part[0] for part in parts])
    score = np.concatenate([part[1] for part in parts])
    label = np.concatenate([part[2] for part in parts])
    order = np.argsort(-score, kind="stable")
    xyxy, score, label = xyxy[order], score[order], label[order]
    keep = _suppress(xyxy, label, np.float32(iou), max_det)
    return xyxy[keep], score[keep], label[keep]


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


def _detect_core(core: Any, levels: Sequence[Level], conf: float, iou: float, max_det: int) -> Found:
    found = core.Candidates(conf)
    for level in levels:
        planes = (level.stride, level.classes, level.box, level.objectness)
        if level.quants is None:
            found.add_float(*planes)
        else:
            classes, box, objectness = level.quants
            tables = (
                table(classes, "sigmoid"),
                table(box, "real"),
                table(box, "size"),
                table(objectness, "sigmoid"),
            )
            found.add_int8(*planes, *tables)
    xyxy, score, label = found.suppress(iou, max_det)
    return xyxy, score, label
