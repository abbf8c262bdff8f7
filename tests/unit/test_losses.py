"""Losses that a recipe can choose, against plain formulas and numeric gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.training.assign import assign  # noqa: E402
from lowwatt.training.loss import (  # noqa: E402
    BOX_LOSSES,
    detection_loss,
    flatten,
    giou_loss,
    iou_loss,
    pad_targets,
    quality_focal,
)

CPU = torch.device("cpu")


def _boxes(seed: int, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 20
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 15), 1)


def _plain(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and GIoU of two boxes, from their definitions."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union, shared / union - (hull - union) / hull


def test_box_losses_equal_their_definitions() -> None:
    a, b = _boxes(0), _boxes(1)
    for i, (iou, giou) in enumerate(_plain(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)):
        assert float(iou_loss(a, b)[i]) == pytest.approx(1 - iou**2, abs=1e-6)
        assert float(giou_loss(a, b)[i]) == pytest.approx(1 - giou, abs=1e-6)


@pytest.mark.parametrize("name", sorted(BOX_LOSSES))
def test_gradients_of_box_losses(name: str) -> None:
    boxes = _boxes(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: BOX_LOSSES[name](b, _boxes(3)), (boxes,))


def test_only_giou_draws_boxes_that_do_not_touch() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
    goal = torch.tensor([[10.0, 10, 14, 14]])
    (still,) = torch.autograd.grad(iou_loss(boxes, goal).sum(), boxes)
    (drawn,) = torch.autograd.grad(giou_loss(boxes, goal).sum(), boxes)
    assert not still.any()
    assert (drawn[0, 2:] < 0).all()  # growing towards the goal lowers the loss


def test_quality_focal_equals_its_definition() -> None:
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    quality = torch.tensor([0, 0.3, 1, 0.7, 0, 1, 0.2, 0, 0.9], dtype=torch.float64)
    for x, y, found in zip(logits.tolist(), quality.tolist(), quality_focal(logits, quality).tolist(), strict=True):
        score = 1 / (1 + math.exp(-x))
        cross_entropy = -(y * math.log(score) + (1 - y) * math.log(1 - score))
        assert found == pytest.approx((y - score) ** 2 * cross_entropy, rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: quality_focal(x, quality), (logits,))


def _case(dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(0)
    outputs = []
    for stride in (8, 16, 32):
        cells = (2, 64 // stride, 64 // stride)
        outputs += [torch.randn(2, n, *cells[1:], generator=generator).to(dtype) for n in (3, 4, 1)]
    boxes = [np.array([[4, 6, 40, 50], [20, 10, 60, 44]], np.float32), np.array([[10, 10, 30, 50]], np.float32)]
    return outputs, pad_targets(boxes, [np.array([0, 2]), np.array([1])], CPU)


def test_choices_of_the_detection_loss_change_their_own_part_only() -> None:
    outputs, targets = _case()
    predictions = flatten(outputs, (64, 64), (8, 16, 32))
    usual = detection_loss(predictions, targets, l1=False)
    giou = detection_loss(predictions, targets, l1=False, box="giou")
    focal = detection_loss(predictions, targets, l1=False, cls="qfl")
    assert giou.cls == usual.cls == detection_loss(predictions, targets, l1=True).cls
    assert focal.iou == usual.iou
    matched = assign(predictions, targets)
    image, anchor = matched.positive.nonzero(as_tuple=True)
    own = targets.xyxy[image, matched.box[image, anchor]]
    expected = 5 * giou_loss(predictions.xyxy[image, anchor], own).mean()
    assert float(giou.iou) == pytest.approx(float(expected), rel=1e-5)
    quality = torch.zeros_like(predictions.cls)
    for i, a in zip(image.tolist(), anchor.tolist(), strict=True):
        quality[i, a, targets.label[i, matched.box[i, a]]] = matched.iou[i, a]
    expected = quality_focal(predictions.cls, quality).sum() / len(image)
    assert float(focal.cls) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("cls", ["bce", "qfl"])
def test_bf16_outputs_are_summed_in_float32(cls: str) -> None:
    outputs, targets = _case(torch.bfloat16)
    exact = [out.float() for out in outputs]
    found = detection_loss(flatten(outputs, (64, 64), (8, 16, 32)), targets, l1=True, cls=cls)
    expected = detection_loss(flatten(exact, (64, 64), (8, 16, 32)), targets, l1=True, cls=cls)
    assert found.total.dtype == torch.float32
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-6)
