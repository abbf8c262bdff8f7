"""SimOTA against a literal, per-box, per-class reference; losses against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from lowwatt.training import assign as module  # noqa: E402
from lowwatt.training.assign import Predictions, assign, pairwise_iou  # noqa: E402
from lowwatt.training.loss import detection_loss, flatten, pad_targets, paired_iou, raw_targets  # noqa: E402

SIDE, STRIDES = 96, (8, 16, 32)


def _predictions(seed: int, batch: int = 3, classes: int = 6) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    outputs = []
    for stride in STRIDES:
        cells = SIDE // stride
        outputs.append(torch.randn(batch, classes, cells, cells, generator=generator) * 2 - 2)
        box = torch.randn(batch, 4, cells, cells, generator=generator) * 0.7
        outputs.append(box + torch.tensor([0.0, 0, 1, 1])[:, None, None])
        outputs.append(torch.randn(batch, 1, cells, cells, generator=generator) - 1)
    return flatten(outputs, (SIDE, SIDE), STRIDES)


def _truth(seed: int, batch: int = 3, classes: int = 6, most: int = 9):
    rng = np.random.default_rng(seed)
    boxes, labels = [], []
    for _ in range(batch):
        count = int(rng.integers(0, most))
        corner = rng.random((count, 2)) * SIDE * 0.9
        boxes.append(np.concatenate((corner, corner + 3 + rng.random((count, 2)) * SIDE / 2), 1).astype(np.float32))
        labels.append(rng.integers(0, classes, count))
    return boxes, labels


def _dense(p: Predictions, image: int, boxes, labels):
    """The published form: boxes x anchors x classes cross-entropy, a loop over the boxes. → positive, box of anchor."""
    x, y = p.centre.T
    inside = torch.stack([(x > b[0]) & (x < b[2]) & (y > b[1]) & (y < b[3]) for b in boxes])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = torch.stack([((x - m[0]).abs() < 2.5 * p.stride) & ((y - m[1]).abs() < 2.5 * p.stride) for m in middle])
    candidate = (inside | near).any(0)
    both = (inside & near)[:, candidate]
    iou = pairwise_iou(boxes, p.xyxy[image][candidate])
    score = (p.cls[image][candidate].sigmoid() * p.obj[image][candidate].sigmoid()[:, None]).sqrt()
    one_hot = functional.one_hot(labels, p.cls.shape[2]).float()[:, None].expand(-1, len(score), -1)
    score = score[None].expand(len(boxes), -1, -1)
    cls_cost = functional.binary_cross_entropy(score, one_hot, reduction="none").sum(-1)
    cost = cls_cost - 3 * torch.log(iou + 1e-8) + 1e5 * ~both
    matching = torch.zeros_like(cost)
    wanted = iou.topk(min(10, iou.shape[1]), 1).values.sum(1).int().clamp(min=1)
    for g, count in enumerate(wanted.tolist()):
        matching[g, cost[g].topk(count, largest=False).indices] = 1
    shared = matching.sum(0) > 1
    cheapest = cost[:, shared].argmin(0)
    matching[:, shared] = 0
    matching[cheapest, shared.nonzero()[:, 0]] = 1
    positive = torch.zeros(len(p.stride), dtype=torch.bool)
    positive[candidate] = matching.sum(0) > 0
    box = torch.zeros(len(p.stride), dtype=torch.long)
    box[candidate] = matching.argmax(0)
    return positive, box


@pytest.mark.parametrize("seed", range(25))
def test_assignment_equals_the_dense_reference(seed: int) -> None:
    predictions, (boxes, labels) = _predictions(seed), _truth(seed)
    found = assign(predictions, pad_targets(boxes, labels, torch.device("cpu")))
    for image, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if not len(label):
            assert not found.positive[image].any()
            continue
        positive, own = _dense(predictions, image, torch.from_numpy(box), torch.from_numpy(label))
        assert torch.equal(found.positive[image], positive)
        assert torch.equal(found.box[image][positive], own[positive])
        iou = paired_iou(torch.from_numpy(box)[own[positive]], predictions.xyxy[image][positive])
        assert torch.allclose(found.iou[image][positive], iou, atol=1e-6)
        assert not found.iou[image][~positive].any()


def test_splitting_a_large_batch_changes_nothing(monkeypatch) -> None:
    predictions, truth = _predictions(1, batch=5), _truth(1, batch=5)
    targets = pad_targets(*truth, torch.device("cpu"))
    whole = assign(predictions, targets)
    monkeypatch.setattr(module, "_CHUNK", 1)
    parts = assign(predictions, targets)
    assert torch.equal(whole.positive, parts.positive)
    assert torch.equal(whole.box[whole.positive], parts.box[whole.positive])


def test_a_box_outside_the_image_takes_no_anchor() -> None:
    predictions = _predictions(7, batch=2)
    boxes = [np.array([[500, 500, 540, 560]], np.float32), np.array([[20, 24, 60, 72]], np.float32)]
    found = assign(predictions, pad_targets(boxes, [np.array([1]), np.array([1])], torch.device("cpu")))
    assert not found.positive[0].any()
    assert found.positive[1].any()


def test_saturated_scores_stay_finite() -> None:
    predictions, truth = _predictions(2), _truth(3)
    predictions.cls.mul_(1e4)
    predictions.obj.mul_(1e4)
    found = assign(predictions, pad_targets(*truth, torch.device("cpu")))
    assert found.positive.any()
    assert torch.isfinite(found.iou).all()


def test_images_without_boxes_give_objectness_loss_only() -> None:
    predictions = _predictions(4)
    empty = [np.zeros((0, 4), np.float32)] * 3, [np.zeros(0, np.int64)] * 3
    losses = detection_loss(predictions, pad_targets(*empty, torch.device("cpu")), l1=True)
    assert int(losses.positives) == 0
    assert float(losses.iou) == float(losses.cls) == float(losses.l1) == 0
    expected = functional.softplus(predictions.obj).sum()
    assert float(losses.total) == pytest.approx(float(expected), rel=1e-5)


def test_raw_targets_decode_to_the_box() -> None:
    rng = np.random.default_rng(0)
    corner = torch.from_numpy(rng.random((50, 2)).astype(np.float32) * 60)
    boxes = torch.cat((corner, corner + 2 + torch.from_numpy(rng.random((50, 2)).astype(np.float32)) * 30), 1)
    predictions = _predictions(5, batch=1)
    anchor = torch.from_numpy(rng.integers(0, len(predictions.stride), 50))
    raw = raw_targets(boxes, predictions.centre[anchor], predictions.stride[anchor])
    stride = predictions.stride[anchor][:, None]
    cell = predictions.centre[anchor] / stride - 0.5
    middle, half = (raw[:, :2] + cell) * stride, raw[:, 2:].exp() * stride / 2
    assert torch.allclose(torch.cat((middle - half, middle + half), 1), boxes, atol=1e-4)


def test_perfect_boxes_have_no_box_loss() -> None:
    """Every anchor predicts the one box exactly; only classes and objectness are left to learn."""
    box = np.array([[20, 24, 60, 72]], np.float32)
    blank = _predictions(6, batch=1)
    goal = torch.from_numpy(box).expand(len(blank.stride), 4)
    raw = raw_targets(goal, blank.centre, blank.stride)[None]
    perfect = Predictions(blank.cls, raw, blank.obj, goal[None], blank.centre, blank.stride)
    losses = detection_loss(perfect, pad_targets([box], [np.array([2])], torch.device("cpu")), l1=True)
    assert int(losses.positives) == 10
    assert float(losses.iou) == pytest.approx(0, abs=1e-5)
    assert float(losses.l1) == pytest.approx(0, abs=1e-5)
    assert float(losses.cls) > 0


def test_decoding_equals_postprocessing() -> None:
    """Training and the shipped post-processing read the outputs alike."""
    from lowwatt.runtime.postprocess import postprocess
    from lowwatt.types import DetectionHead

    generator = torch.Generator().manual_seed(9)
    outputs = [torch.randn(1, c, 96 // s, 96 // s, generator=generator) for s in STRIDES for c in (2, 4, 1)]
    names = [f"{kind}_{s}" for s in STRIDES for kind in ("cls", "box", "obj")]
    head = DetectionHead(STRIDES, tuple((f"cls_{s}", f"box_{s}", f"obj_{s}") for s in STRIDES), 2)
    arrays = {n: o.permute(0, 2, 3, 1).numpy() for n, o in zip(names, outputs, strict=True)}
    found = postprocess(arrays, {}, head, None, conf=0.0, iou=1.0, max_det=10_000, engine="numpy")
    predictions = flatten(outputs, (96, 96), STRIDES)
    score = predictions.cls[0].sigmoid().max(1).values * predictions.obj[0].sigmoid()
    order = torch.argsort(score, descending=True, stable=True)
    assert np.allclose(found.score, score[order], atol=1e-6)
    assert np.allclose(found.xyxy, predictions.xyxy[0][order], atol=1e-3)
