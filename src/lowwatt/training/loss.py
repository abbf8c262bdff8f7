"""YOLOX's losses: IoU or GIoU for the boxes, cross-entropy or quality focal loss for the classes, cross-entropy for
objectness; all per positive anchor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lowwatt.training.assign import CANDIDATES, Assignment, Predictions, Targets, assign, columns, first_places
from lowwatt.training.draw import sent

BOX_LOSS_WEIGHT = 5.0
_LOG_SIZE_LIMIT = 12.0  # exp(12) strides is beyond every image; a wild start cannot overflow


def at_least_one(count: Tensor) -> Tensor:
    """What a sum over `count` things is divided by."""
    return count.clamp(min=1)


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
    """NCHW outputs as one row of anchors with decoded boxes; `side` is the input's (height, width).

    All in float32 but the class logits: these are many and few are read, so they stay as the network gives them.
    """
    rows = [out.flatten(2).transpose(1, 2) for out in outputs]
    cls, box, obj = (torch.cat(rows[kind::3], 1) for kind in range(3))
    box, obj = box.float(), obj.float()
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
    """Lists of boxes per image as padded tensors on the device; one box at least, valid or not."""
    most = max(map(len, labels), default=0) or 1
    xyxy = np.zeros((len(boxes), most, 4), np.float32)
    label = np.zeros((len(boxes), most), np.int64)
    valid = np.zeros((len(boxes), most), np.bool_)
    for i, (box, of_box) in enumerate(zip(boxes, labels, strict=True)):
        xyxy[i, : len(box)], label[i, : len(box)], valid[i, : len(box)] = box, of_box, True
    return Targets(sent(xyxy, device), sent(label, device), sent(valid, device))


def detection_loss(
    predictions: Predictions,
    targets: Targets,
    l1: bool,
    box: str = "iou",
    cls: str = "bce",
    share: Callable[[Tensor], Tensor] = at_least_one,
) -> Losses:
    """Assign; then the losses of the boxes (weight 5), of the classes and of objectness, and L1 where wanted.

    `box` is a key of BOX_LOSSES. `cls`: `bce`, cross-entropy to IoU-soft targets at positive anchors, or `qfl`, quality
    focal loss at all anchors. All are divided by the positives; `share` makes of these what they are to be divided by,
    where several processes share a batch.
    """
    matched = assign(predictions, targets)
    learners = Learners.of(predictions, targets, matched)
    positives = matched.positive.sum()
    count = share(positives.float())
    box_loss = BOX_LOSS_WEIGHT * learners.sum(BOX_LOSSES[box](learners.xyxy, learners.goal)) / count
    obj_loss = _cross_entropy(predictions.obj, matched.positive.float()) / count
    cls_loss = _CLASS_LOSSES[cls](predictions, learners) / count
    l1_loss = torch.zeros_like(box_loss)
    if l1:
        l1_loss = learners.sum((learners.box - learners.raw_goal).abs().sum(2)) / count
    return Losses(box_loss + obj_loss + cls_loss + l1_loss, box_loss, cls_loss, obj_loss, l1_loss, positives)


@dataclass(frozen=True, slots=True)
class Learners:
    """The positive anchors of a batch, padded to one number K an image, with what they predict and are to predict.

    anchor (B, K) and whether it is one, real (B, K); box (B, K, 4) as the network gives it and raw_goal as it should;
    xyxy and goal (B, K, 4) in pixels; label (B, K); quality (B, K), the IoU reached, 0 where there is no anchor.
    """

    anchor: Tensor
    real: Tensor
    box: Tensor
    xyxy: Tensor
    goal: Tensor
    raw_goal: Tensor
    label: Tensor
    quality: Tensor

    @classmethod
    def of(cls, p: Predictions, targets: Targets, matched: Assignment) -> Learners:
        """No box takes more than CANDIDATES anchors."""
        limit = min(len(p.stride), CANDIDATES * targets.label.shape[1])
        anchor, real = first_places(matched.positive, limit)
        own = matched.box.gather(1, anchor)
        goal, label = columns(targets.xyxy, own), targets.label.gather(1, own)
        raw_goal = raw_targets(goal, p.centre[anchor], p.stride[anchor])
        quality = matched.iou.gather(1, anchor) * real
        return cls(anchor, real, columns(p.box, anchor), columns(p.xyxy, anchor), goal, raw_goal, label, quality)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of values (B, K) over those that are."""
        return values.masked_fill(~self.real, 0).sum()


def _soft_cross_entropy(p: Predictions, learners: Learners) -> Tensor:
    """Cross-entropy at the positive anchors; the label's target is the IoU reached."""
    logits = columns(p.cls, learners.anchor).to(p.obj.dtype)
    soft = torch.zeros_like(logits).scatter_(2, learners.label[:, :, None], learners.quality[:, :, None])
    return learners.sum(functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").sum(2))


def _quality_focal(p: Predictions, learners: Learners) -> Tensor:
    """Quality focal loss at all anchors; the label's target is the IoU reached, 0 elsewhere."""
    logits = p.cls.to(p.obj.dtype)
    place = learners.anchor * logits.shape[2] + learners.label
    quality = torch.zeros_like(logits).flatten(1).scatter_add_(1, place, learners.quality).view_as(logits)
    return quality_focal(logits, quality).sum()


_CLASS_LOSSES: Mapping[str, Callable[[Predictions, Learners], Tensor]] = {
    "bce": _soft_cross_entropy,
    "qfl": _quality_focal,
}


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """|quality - score|² times the cross-entropy, element by element (Generalized Focal Loss, Li et al., 2020)."""
    distance = (quality - logits.sigmoid()).square()
    return distance * functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def _cross_entropy(logits: Tensor, goal: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, goal, reduction="sum")


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of corners (..., 4) with corners (..., 4), pair by pair: (...)."""
    shared, union = _overlap(a, b)
    return shared / (union + 1e-8)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union, pair by pair."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    return shared, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared


def iou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - IoU² of corners (..., 4): (...). No gradient where the boxes do not touch."""
    return 1 - paired_iou(a, b).square()


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - GIoU of corners (..., 4): (...), 0 to 2; also draws boxes that do not touch (Rezatofighi et al., 2019)."""
    shared, union = _overlap(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return 1 - shared / (union + 1e-8) + (hull - union) / (hull + 1e-8)


BOX_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"iou": iou_loss, "giou": giou_loss}


def raw_targets(xyxy: Tensor, centre: Tensor, stride: Tensor) -> Tensor:
    """What the box output should say (..., 4): offsets from the cell in strides, log sizes in strides."""
    step = stride[..., None]
    middle, size = (xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]
    return torch.cat((middle / step - (centre / step - 0.5), torch.log(size / step + 1e-8)), -1)
