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
_FAR = -1e6  # pixels: where padding lies, so that no anchor is near it
_CHUNK = 1 << 25  # elements of a boxes x anchors tensor handled at once
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Predictions:
    """Raw outputs of a batch, anchors of all strides in a row.

    cls (B, A, C) of any type, box (B, A, 4) as the network gives it, obj (B, A); xyxy (B, A, 4) the decoded corners in
    input pixels; centre (A, 2) the anchor points in pixels, stride (A,).
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
    left, top, right, bottom = (edge[..., :, None] for edge in a.unbind(-1))
    left_b, top_b, right_b, bottom_b = (edge[..., None, :] for edge in b.unbind(-1))
    shared = (torch.minimum(right, right_b) - torch.maximum(left, left_b)).clamp_(min=0)
    shared *= (torch.minimum(bottom, bottom_b) - torch.maximum(top, top_b)).clamp_(min=0)
    union = ((right - left) * (bottom - top) + (right_b - left_b) * (bottom_b - top_b)).sub_(shared)
    return shared.div_(union.add_(1e-8))


@torch.no_grad()
def assign(predictions: Predictions, targets: Targets) -> Assignment:
    """Assign the boxes of a batch to anchors; images are independent of each other."""
    batch, boxes = targets.label.shape
    anchors = len(predictions.stride)
    images = max(1, _CHUNK // (boxes * anchors))
    parts = [_assign(predictions, targets, slice(i, i + images)) for i in range(0, batch, images)]
    return Assignment(
        torch.cat([p.positive for p in parts]),
        torch.cat([p.box for p in parts]),
        torch.cat([p.iou for p in parts]),
    )


def _assign(predictions: Predictions, targets: Targets, part: slice) -> Assignment:
    valid, label = targets.valid[part], targets.label[part]
    xyxy = targets.xyxy[part].to(predictions.xyxy.dtype).masked_fill(~valid[:, :, None], _FAR)
    near, inside = _geometry(predictions, xyxy)
    at, real = first_places((near | inside).any(1), near.shape[2])  # the rest of the work is on these columns only
    iou = pairwise_iou(xyxy, columns(predictions.xyxy[part], at)).mul_(real[:, None])
    cost = class_cost(columns(predictions.cls[part], at), columns(predictions.obj[part, :, None], at), label)
    cost -= IOU_WEIGHT * torch.log(iou + 1e-8)
    off_centre = (near & inside).logical_not_().gather(2, at[:, None].expand(-1, label.shape[1], -1))
    cost.add_(off_centre, alpha=OUTSIDE).masked_fill_(~(real[:, None] & valid[:, :, None]), torch.inf)
    return _spread(_match(cost, iou, valid), at, len(predictions.stride))


def _geometry(predictions: Predictions, xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """(B, G, A): the anchor point is within 2.5 strides of the box's centre; it is inside the box."""
    x, y = predictions.centre.T
    left, top, right, bottom = (edge[:, :, None] for edge in xyxy.unbind(-1))
    inside = (x > left).logical_and_(x < right).logical_and_(y > top).logical_and_(y < bottom)
    radius = CENTRE_RADIUS * predictions.stride
    near = (x - (left + right) / 2).abs_() < radius
    return near.logical_and_((y - (top + bottom) / 2).abs_() < radius), inside


def first_places(wanted: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Where `wanted` (B, A) is true, as rising indices (B, K), padded alike, and which of them are (B, K).

    K is the most of any image; on a GPU, which would have to be waited for, the most that there can be, `limit`.
    """
    most = limit if wanted.is_cuda else max(1, int(wanted.sum(1).max()))
    real, at = wanted.to(torch.uint8).sort(dim=1, descending=True, stable=True)
    return at[:, :most], real[:, :most].bool()


def columns(values: Tensor, at: Tensor) -> Tensor:
    """(B, A, N) at anchors (B, K): (B, K, N)."""
    return values.gather(1, at[:, :, None].expand(-1, -1, values.shape[2]))


def class_cost(cls: Tensor, obj: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of sqrt(class · objectness) against each box's label, summed over classes: (B, G, K).

    cls (B, K, C), obj (B, K, 1) raw, label (B, G). Logarithms are cut at -100 as torch's cross-entropy does.
    """
    score = (cls.to(obj.dtype).sigmoid() * obj.sigmoid()).sqrt_()
    absent = torch.log1p(-score).clamp_(min=-100).neg_()
    present = torch.log_(score.clamp_(min=_TINY)).clamp_(min=-100).neg_()
    change = (present - absent).transpose(1, 2).contiguous()  # (B, C, K): a box's label picks a row
    image = torch.arange(len(label), device=label.device)[:, None]
    return change[image, label].add_(absent.sum(2)[:, None])


def _match(cost: Tensor, iou: Tensor, valid: Tensor) -> Assignment:
    """Each box takes its dynamic k cheapest anchors; an anchor wanted by several goes to the box it costs least."""
    count = min(CANDIDATES, cost.shape[2])
    wanted = iou.topk(count, dim=2).values.sum(2).int().clamp_(min=1) * valid  # (B, G)
    price, cheapest = cost.topk(count, dim=2, largest=False)
    rank = torch.arange(count, device=cost.device)
    taken = (rank < wanted[:, :, None]) & price.isfinite()
    takes = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cheapest, taken)  # (B, G, K)
    takers = takes.sum(1, dtype=torch.int32)  # (B, K)
    best = torch.where(takers > 1, cost.argmin(1), takes.to(torch.uint8).argmax(1))
    positive = takers > 0
    return Assignment(positive, best, iou.gather(1, best[:, None]).squeeze(1) * positive)


def _spread(found: Assignment, at: Tensor, anchors: int) -> Assignment:
    """From candidate anchors (B, K) to all of them (B, A)."""
    parts = (found.positive, found.box, found.iou)
    return Assignment(*(part.new_zeros((len(at), anchors)).scatter_(1, at, part) for part in parts))
