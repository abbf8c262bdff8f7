"""Average precision must equal pycocotools, whatever the detections look like."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from lowwatt.data.coco import Boxes, CocoData, CocoImage
from lowwatt.evaluate.coco import _ground_truth, coco_ap, to_coco
from lowwatt.types import Detections

LABELS, IDS = ("cat", "dog", "never seen"), (3, 17, 90)


def _split(seed: int, images: int = 12) -> CocoData:
    """Boxes of all three area ranges, some crowds, one image without any."""
    rng = np.random.default_rng(seed)
    boxes = []
    for number in range(images):
        count = 0 if number == 0 else int(rng.integers(1, 9))
        size = np.exp(rng.uniform(np.log(8), np.log(200), (count, 2)))
        xywh = np.concatenate((rng.uniform(0, 300, (count, 2)), size), 1)
        boxes.append(Boxes(xywh, rng.integers(0, 2, count), rng.random(count) < 0.15, size.prod(1)))
    pictures = tuple(CocoImage(100 + i, Path(f"{i}.jpg"), 640, 480) for i in range(images))
    return CocoData(Path("val.json"), pictures, tuple(boxes), LABELS, IDS)


def _detect(data: CocoData, seed: int) -> list[tuple[int, Detections]]:
    """Shaken ground truth with misses, doubles, wrong classes and tied scores."""
    rng = np.random.default_rng(seed)
    results = []
    for image, boxes in zip(data.images, data.boxes, strict=True):
        pick = rng.permutation(np.repeat(np.arange(len(boxes)), 2))[: int(1.5 * len(boxes))]
        xyxy = boxes.xyxy[pick] + rng.normal(0, 4, (len(pick), 4)).astype(np.float32)
        label = np.where(rng.random(len(pick)) < 0.1, 1 - boxes.label[pick], boxes.label[pick])
        score = np.round(rng.random(len(pick)), 1).astype(np.float32)
        results.append((image.id, Detections(xyxy, score, label, LABELS)))
    return results


def _reference(data: CocoData, results) -> np.ndarray:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = _ground_truth(data)
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(to_coco(results, data.category_ids)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(seed: int) -> None:
    data = _split(seed)
    results = _detect(data, seed + 50)
    ap = coco_ap(data, results)
    measured = [ap.ap, ap.ap50, ap.ap75, ap.small, ap.medium, ap.large]
    assert measured == pytest.approx(_reference(data, results)[:6].tolist(), abs=1e-12)
    assert 0.05 < ap.ap < 0.9
    assert ap.per_class["never seen"] == -1
    assert np.mean([ap.per_class["cat"], ap.per_class["dog"]]) == pytest.approx(ap.ap)


def test_no_detection_is_zero_not_a_crash() -> None:
    data = _split(1)
    assert coco_ap(data, []).ap == 0
    assert coco_ap(data, [(i.id, Detections.empty(LABELS)) for i in data.images]).ap50 == 0


def test_a_split_without_boxes_has_no_precision() -> None:
    data = _split(1).first(1)
    assert coco_ap(data, []).ap == -1


def test_perfect_detections_score_one() -> None:
    data = _split(2)
    results = [
        (i.id, Detections(b.xyxy, np.ones(len(b), np.float32), b.label, LABELS))
        for i, b in zip(data.images, data.boxes, strict=True)
    ]
    assert coco_ap(data, results).ap == pytest.approx(1)


def test_images_without_result_count_as_missed() -> None:
    data = _split(3)
    results = _detect(data, 9)
    assert coco_ap(data, results[: len(results) // 2]).ap < coco_ap(data, results).ap


def test_result_rows_have_the_files_own_ids() -> None:
    found = Detections(np.array([[1, 2, 11, 22]], np.float32), np.array([0.5], np.float32), np.array([1]), LABELS)
    assert to_coco([(7, found)], IDS) == [
        {"image_id": 7, "category_id": 17, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5}
    ]
