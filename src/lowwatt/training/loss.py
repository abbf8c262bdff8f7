"""YOLOX's losses: IoU for the boxes, cross-entropy for classes and objectness, all per positive anchor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lowwatt.training.assign import Assignment, Predictions, Targets, assign

IOU_LOSS_WEIGHT = 5.0
_LOG_SIZE_LIMIT = 12.0  # exp(12) strides is beyond every image; a wild start cannot overflow


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True, slots=True)
class Losses:
    """Scalars of one step; `total` is what is differentiated."""

    total: Tensor
    iou: Tensor
    cls: Tensor
    obj: Tensor
    l1: Tensor
    positives: Tensor


def flatten(outputs: Sequence[Tensor], side: tuple[int, int], strides: Sequence[int]) -> Predictions:
    """NCHW outputs as one row of anchors with decoded boxes, float32; `side` is the input's (height, width)."""
    rows = [out.flatten(2).transpose(1, 2).float() for out in outputs]
    cls, box, obj = (torch.cat(rows[kind::3], 1) for kind in range(3))
    cell, stride = anchor_points(side, strides, box.device)
    return Predictions(cls, box, obj[..., 0], corners(box, cell, stride), (cell + 0.5) * stride[:, None], stride)


def corners(box: Tensor, cell: Tensor, stride: Tensor) -> Tensor:
    """Raw boxes (..., A, 4) as corners in input pixels; `cell` and `stride` are those of `anchor_points`."""
    centre = (box[..., :2] + cell) * stride[:, None]
    half = torch.exp(box[..., 2:].clamp(max=_LOG_SIZE_LIMIT)) * stride[:, None] / 2
    return torch.cat((centre - half, centre + half), -1)


def anchor_points(side: tuple[int, int], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cell (A, 2) as (x, y) and stride (A,) of each anchor, in the order of the flattened outputs."""
    cells, steps = [], []
    for stride in strides:
        height, width = side[0] // stride, side[1] // stride
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        cells.append(torch.stack((x, y), -1).reshape(-1, 2).float())
        steps.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(cells), torch.cat(steps)


def pad_targets(
    boxes: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.int64]], device: torch.device
) -> Targets:
    """Lists of boxes per image as padded tensors on the device."""
    most = max(map(len, labels), default=0)
    xyxy = np.zeros((len(boxes), most, 4), np.float32)
    label = np.zeros((len(boxes), most), np.int64)
    valid = np.zeros((len(boxes), most), np.bool_)
    for i, (box, of_box) in enumerate(zip(boxes, labels, strict=True)):
        xyxy[i, : len(box)], label[i, : len(box)], valid[i, : len(box)] = box, of_box, True
    return Targets(*(torch.from_numpy(a).to(device, non_blocking=True) for a in (xyxy, label, valid)))


def detection_loss(
    predictions: Predictions, targets: Targets, l1: bool, average: Callable[[Tensor], Tensor] = _alone
) -> Losses:
    """Assign; then IoU loss 1 - IoU² (weight 5), class loss to IoU-soft targets, objectness loss, L1 where wanted.

    All are divided by the positives of the batch; `average` takes their mean over the processes that share it.
    """
    matched = assign(predictions, targets)
    count = average(matched.positive.sum().float()).clamp(min=1)
    image, anchor = matched.positive.nonzero(as_tuple=True)
    box = matched.box[image, anchor]
    goal = targets.xyxy[image, box]
    iou = paired_iou(predictions.xyxy[image, anchor], goal)
    iou_loss = IOU_LOSS_WEIGHT * (1 - iou.square()).sum() / count
    obj_loss = _cross_entropy(predictions.obj, matched.positive.float()) / count
    cls_loss = _class_loss(predictions.cls[image, anchor], targets.label[image, box], matched, image, anchor) / count
    l1_loss = torch.zeros_like(iou_loss)
    if l1:
        raw = raw_targets(goal, predictions.centre[anchor], predictions.stride[anchor])
        l1_loss = (predictions.box[image, anchor] - raw).abs().sum() / count
    return Losses(
        iou_loss + obj_loss + cls_loss + l1_loss, iou_loss, cls_loss, obj_loss, l1_loss, matched.positive.sum()
    )


def _class_loss(cls: Tensor, label: Tensor, matched: Assignment, image: Tensor, anchor: Tensor) -> Tensor:
    soft = torch.zeros_like(cls)
    soft.scatter_(1, label[:, None], matched.iou[image, anchor][:, None])
    return _cross_entropy(cls, soft)


def _cross_entropy(logits: Tensor, goal: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, goal, reduction="sum")


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of corners (N, 4) with corners (N, 4), pair by pair: (N,)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return shared / (union + 1e-8)


def raw_targets(xyxy: Tensor, centre: Tensor, stride: Tensor) -> Tensor:
    """What the box output should say: offsets from the cell in strides, log sizes in strides. All (N, …)."""
    step = stride[:, None]
    middle, size = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
    return torch.cat((middle / step - (centre / step - 0.5), torch.log(size / step + 1e-8)), 1)
