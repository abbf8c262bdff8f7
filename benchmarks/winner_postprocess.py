"""A plain reading of the LPCV 2021 winner's post-processing, to measure ours beside it: their steps, our words.

Source of the steps: github.com/ModelTC/LPCV2021_Winner_Solution, utils.py and nms/nms_cython.pyx; of the first
version the winner's slides alone, for it was not published. Both take one image's float32 maps by stride, each
(1, H, W, C), as their runtime gives them, and give rows (image, x1, y1, x2, y2, score, class) in source pixels. Kept as
they are: anchors made anew for each image, overlap of boxes that count their last pixel, classes kept apart by an
offset of 4096 pixels, the first 300 in the order of anchors.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lowwatt.types import Array, Letterbox

STRIDES = (8, 16, 32)
LEAST_LOGIT, LEAST_SCORE, IOU, MOST = -4.5951, 0.01, 0.65, 300
CLASS_OFFSET = 4096

Maps = Sequence[tuple[Array, Array, Array]]
"""(class, box, objectness) of each stride."""
Nms = Callable[[Array, float], Array]

_NMS_IN_C = """
#include <stdint.h>
static inline float greater(float a, float b) { return a >= b ? a : b; }
static inline float less(float a, float b) { return a <= b ? a : b; }
void nms(const float* d, const float* area, const int64_t* order, int64_t n, float thresh, int64_t* gone) {
    for (int64_t a = 0; a < n; ++a) {
        const int64_t i = order[a];
        if (gone[i]) continue;
        const float* p = d + 5 * i;
        for (int64_t b = a + 1; b < n; ++b) {
            const int64_t j = order[b];
            if (gone[j]) continue;
            const float* q = d + 5 * j;
            const float w = greater(0.0f, less(p[2], q[2]) - greater(p[0], q[0]) + 1);
            const float h = greater(0.0f, less(p[3], q[3]) - greater(p[1], q[1]) + 1);
            const float common = w * h;
            if (common / (area[i] + area[j] - common) >= thresh) gone[j] = 1;
        }
    }
}
"""


def compiled_nms() -> Nms:
    """Their compiled suppression: every box against every one below it. Needs a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "nms.c", Path(folder) / "nms.so"
        source.write_text(_NMS_IN_C)
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        function = ctypes.CDLL(str(library)).nms
    pointer = ctypes.c_void_p
    function.argtypes = [pointer, pointer, pointer, ctypes.c_int64, ctypes.c_float, pointer]

    def nms(boxes: Array, thresh: float) -> Array:
        boxes = np.ascontiguousarray(boxes, np.float32)
        area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
        order = boxes[:, 4].argsort()[::-1].copy()
        gone = np.zeros(len(boxes), np.int64)
        function(boxes.ctypes.data, area.ctypes.data, order.ctypes.data, len(boxes), thresh, gone.ctypes.data)
        return np.where(gone == 0)[0]

    return nms


def numpy_nms(boxes: Array, thresh: float) -> Array:
    """The suppression that they began with."""
    x1, y1, x2, y2, scores = boxes.T
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = scores.argsort()[::-1]
    keep = []
    while order.size > 0:
        best, rest = order[0], order[1:]
        keep.append(best)
        width = np.maximum(0.0, np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1)
        height = np.maximum(0.0, np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1)
        common = width * height
        order = order[np.where(common / (area[best] + area[rest] - common) <= thresh)[0] + 1]
    return np.sort(np.array(keep, np.int64))


def final_version(maps: Maps, box: Letterbox, nms: Nms) -> Array | None:
    """Objectness first, then scores and boxes of what is left (8.53 ms on their board)."""
    logits, strides, corners = [], [], []
    for level, stride in zip(maps, STRIDES, strict=True):
        sure = (level[2] > LEAST_LOGIT).squeeze(-1)
        left = [plane[sure][None] for plane in level]
        logits.append(np.concatenate(left, axis=2))
        strides.append(np.full((1, left[2].shape[1], 2), float(stride)))
        corners.append(_corners(level[2].shape, stride)[None][sure])
    flat, stride, corner = (
        np.concatenate(logits, axis=1)[0],
        np.concatenate(strides, axis=1)[0],
        np.concatenate(corners),
    )
    best, label = np.max(flat[:, :-5], axis=1), np.argmax(flat[:, :-5], axis=1)
    score = _sigmoid(best) * _sigmoid(flat[:, -1])
    sure = score > LEAST_SCORE
    boxes = _decode(flat[:, -5:-1][sure], stride[sure], corner[sure])
    return _select(boxes, score[sure], label[sure], box, nms)


def first_version(maps: Maps, box: Letterbox, nms: Nms) -> Array | None:
    """Sigmoid of every logit and every box decoded, then the threshold (31.70 ms on their board)."""
    logits = [np.concatenate(level, axis=3).reshape(1, -1, level[0].shape[3] + 5) for level in maps]
    strides = [np.full((part.shape[1], 2), float(stride)) for part, stride in zip(logits, STRIDES, strict=True)]
    corners = [_corners(level[2].shape, stride).reshape(-1, 2) for level, stride in zip(maps, STRIDES, strict=True)]
    flat = np.concatenate(logits, axis=1)[0]
    boxes = _decode(flat[:, -5:-1], np.concatenate(strides), np.concatenate(corners))
    scores = _sigmoid(flat[:, :-5]) * _sigmoid(flat[:, -1:])
    score, label = np.max(scores, axis=1), np.argmax(scores, axis=1)
    sure = score > LEAST_SCORE
    return _select(boxes[sure], score[sure], label[sure], box, nms)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _corners(shape: tuple[int, ...], stride: int) -> Array:
    """(H, W, 2): pixel (x, y) of each cell."""
    columns = np.arange(0, shape[2] * stride, step=stride, dtype=np.float32)
    rows = np.arange(0, shape[1] * stride, step=stride, dtype=np.float32)
    return np.stack(np.meshgrid(columns, rows), axis=2)


def _decode(raw: Array, stride: Array, corner: Array) -> Array:
    """Centre and size in input pixels."""
    raw[:, :2] *= stride
    raw[:, :2] += corner
    raw[:, 2:4] = np.exp(raw[:, 2:4]) * stride
    return raw


def _select(boxes: Array, score: Array, label: Array, box: Letterbox, nms: Nms) -> Array | None:
    found = np.concatenate((boxes, score[:, None], label[:, None].astype(np.float32)), axis=1)
    boxes, classes = found[:, :4], found[:, 5]
    boxes[:, 0] = boxes[:, 0] - boxes[:, 2] / 2
    boxes[:, 1] = boxes[:, 1] - boxes[:, 3] / 2
    boxes[:, 2] = boxes[:, 0] + boxes[:, 2]
    boxes[:, 3] = boxes[:, 1] + boxes[:, 3]
    keep = nms(np.hstack((boxes + classes[:, None] * CLASS_OFFSET, found[:, 4:5])), IOU)
    kept = np.hstack((boxes[keep], found[:, 4:5][keep], classes[keep][:, None]))
    if not len(kept):
        return None
    kept = kept[:MOST]
    rows = np.concatenate([np.full((len(kept), 1), 0), kept], axis=1)
    for column, pad in zip((1, 2, 3, 4), (box.left, box.top, box.left, box.top), strict=True):
        rows[:, column] = rows[:, column] - pad
    rows[:, 1:5] = rows[:, 1:5] / box.scale
    return rows
