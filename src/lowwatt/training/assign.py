"""SimOTA: which anchor point learns which box (YOLOX, Ge et al., 2021), without the boxes x anchors x classes tensor.

The class cost of a box is a binary cross-entropy summed over the classes, with a one-hot target. The target differs
from all-zero at one class only, so the sum is Σ_c -log(1 - s_c), which does not depend on the box, plus
log(1 - s_l) - log(s_l) at the box's label l. That leaves boxes x anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CENTRE_RADIUS = 2.5  # strides
CANDIDATES = 10  # best IoUs that decide how many anchors a box gets
IOU_WEIGHT = 3.0
OUTSIDE = 1e5  # cost of an anchor that is not both in the box and near its centre
_CHUNK = 1 << 25  # elements of a boxes x anchors tensor handled at once
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Predictions:
    """Raw outputs of a batch, anchors of all strides in a row.

    cls (B, A, C), box (B, A, 4) as the network gives it, obj (B, A); xyxy (B, A, 4) the decoded corners in input
    pixels; centre (A, 2) the anchor points in pixels, stride (A,).
    """

    cls: Tensor
    box: Tensor
    obj: Tensor
    xyxy: Tensor
    centre: Tensor
    stride: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Boxes of a batch padded to one length: xyxy (B, G, 4), label (B, G), valid (B, G)."""

    xyxy: Tensor
    label: Tensor
    valid: Tensor


@dataclass(frozen=True, slots=True)
class Assignment:
    """Per anchor: is it positive (B, A), which box it learns (B, A), its IoU with that box (B, A), 0 where negative."""

    positive: Tensor
    box: Tensor
    iou: Tensor


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of (..., N, 4) and (..., M, 4) corners: (..., N, M)."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (high - low).clamp_(min=0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / (area_a[..., :, None] + area_b[..., None, :] - shared + 1e-8)


@torch.no_grad()
def assign(predictions: Predictions, targets: Targets) -> Assignment:
    """Assign the boxes of a batch to anchors; images are independent of each other."""
    batch, boxes = targets.label.shape
    anchors = len(predictions.stride)
    if boxes == 0:
        return _empty(predictions)
    images = max(1, _CHUNK // (boxes * anchors))
    parts = [_assign(predictions, targets, slice(i, i + images)) for i in range(0, batch, images)]
    return Assignment(
        torch.cat([p.positive for p in parts]),
        torch.cat([p.box for p in parts]),
        torch.cat([p.iou for p in parts]),
    )


def _empty(predictions: Predictions) -> Assignment:
    zero = torch.zeros_like(predictions.obj, dtype=torch.float32)
    return Assignment(zero.bool(), zero.long(), zero)


def _assign(predictions: Predictions, targets: Targets, part: slice) -> Assignment:
    xyxy, label, valid = targets.xyxy[part].float(), targets.label[part], targets.valid[part]
    near, inside = _geometry(predictions, xyxy, valid)
    candidate = (near | inside).any(1)  # (B, A)
    usable = valid[:, :, None] & candidate[:, None, :]
    iou = pairwise_iou(xyxy, predictions.xyxy[part].float()) * usable
    cost = class_cost(predictions.cls[part], predictions.obj[part], label, candidate)
    cost += -IOU_WEIGHT * torch.log(iou + 1e-8)
    cost += OUTSIDE * ~(near & inside)
    cost.masked_fill_(~usable, torch.inf)
    return _match(cost, iou, usable)


def _geometry(predictions: Predictions, xyxy: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(B, G, A): the anchor point is within 2.5 strides of the box's centre; it is inside the box."""
    x, y = predictions.centre.T
    left, top, right, bottom = (edge[:, :, None] for edge in xyxy.unbind(-1))
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    radius = CENTRE_RADIUS * predictions.stride
    near = ((x - (left + right) / 2).abs() < radius) & ((y - (top + bottom) / 2).abs() < radius)
    return near & valid[:, :, None], inside & valid[:, :, None]


def class_cost(cls: Tensor, obj: Tensor, label: Tensor, candidate: Tensor) -> Tensor:
    """Cross-entropy of sqrt(class · objectness) against each box's label, summed over classes: (B, G, A).

    Computed at candidate anchors only; zero elsewhere. Logarithms are cut at -100 as torch's cross-entropy does.
    """
    image, anchor = candidate.nonzero(as_tuple=True)
    score = (cls[image, anchor].float().sigmoid() * obj[image, anchor].float().sigmoid()[:, None]).sqrt()
    absent = -torch.log1p(-score).clamp(min=-100)  # (candidates, C)
    present = -torch.log(score.clamp(min=_TINY)).clamp(min=-100)
    at_label = torch.gather(present - absent, 1, label[image])  # (candidates, G)
    cost = cls.new_zeros((*candidate.shape, label.shape[1]), dtype=torch.float32)
    cost[image, anchor] = absent.sum(1, keepdim=True) + at_label
    return cost.transpose(1, 2)


def _match(cost: Tensor, iou: Tensor, usable: Tensor) -> Assignment:
    """Each box takes its dynamic k cheapest anchors; an anchor wanted by several goes to the box it costs least."""
    count = min(CANDIDATES, cost.shape[2])
    wanted = iou.topk(count, dim=2).values.sum(2).int().clamp(min=1)  # (B, G)
    cheapest = cost.topk(count, dim=2, largest=False).indices
    rank = torch.arange(count, device=cost.device)
    chosen = torch.zeros_like(usable).scatter_(2, cheapest, rank < wanted[:, :, None]) & usable
    takers = chosen.sum(1)  # (B, A)
    best = torch.where((takers > 1)[:, None, :], cost, torch.where(chosen, 0.0, torch.inf)).argmin(1)
    positive = takers > 0
    own = torch.gather(iou, 1, best[:, None, :]).squeeze(1)
    return Assignment(positive, best, own * positive)
