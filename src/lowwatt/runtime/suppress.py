"""Class-aware non-maximum suppression in NumPy: the twin of csrc/suppress.cpp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suppress(xyxy: NDArray[np.float32], label: NDArray[np.int64], iou: np.float32, max_det: int) -> NDArray[np.int64]:
    """Indices kept by greedy suppression within each class, of boxes (N, 4) already sorted by score.

    A box goes whose IoU with a better one that stays exceeds `iou`; at most `max_det` stay.

    >>> boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 7], [20, 0, 28, 8]], np.float32)
    >>> suppress(boxes, np.zeros(3, np.int64), np.float32(0.5), 300).tolist()
    [0, 2]
    """
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
