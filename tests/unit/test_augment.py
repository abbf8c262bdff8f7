"""Boxes must stay on their objects through every warp; batches must depend on the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowwatt.data.augment import MIN_VISIBLE, Chances, clip_boxes, mixup, moved, plain, random_affines, transform_boxes
from lowwatt.data.coco import read_coco
from lowwatt.data.jitter import jittered
from lowwatt.data.layout import Sample, drawn, warp
from lowwatt.data.loader import TrainLoader
from lowwatt.data.sample import make_sample
from lowwatt.errors import ToolError
from lowwatt.letterbox import letterbox, read_image
from lowwatt.recipe import TrainSettings
from lowwatt.types import Preprocess

STILL = TrainSettings(degrees=0, shear=0, translate=0, scale=(1, 1), flip=0)


def _square(height: int, width: int, box: tuple[int, int, int, int], channels: int = 1, value: int = 255) -> Sample:
    """Gray 50 with one bright rectangle, which is the box."""
    image = np.full((height, width, channels), 50, np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = value
    return Sample(image, np.array([box], np.float32), np.array([3]))


def _chances(seed: int = 0, count: int = 1) -> Chances:
    return Chances.draw(np.random.default_rng(seed), count)


def _plain(sample: Sample, side: int, flip: float) -> Sample:
    return drawn(plain([sample], side, _chances(), flip)[0])


def _moved(samples: list[Sample], side: int, seed: int, settings: TrainSettings) -> Sample:
    return drawn(moved([samples], side, _chances(seed), settings)[0])


def _bright_box(image: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(image.max((1, 2)) > 150), np.flatnonzero(image.max((0, 2)) > 150)
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_plain_keeps_the_box_on_its_object(channels: int, flip: float) -> None:
    sample = _square(60, 90, (10, 20, 40, 50), channels)
    out = _plain(sample, 180, flip)
    assert out.image.shape == (180, 180, channels) and out.image.dtype == np.uint8
    expected = [180 - 80, 40, 180 - 20, 100] if flip else [20, 40, 80, 100]
    assert out.boxes[0].tolist() == expected
    assert np.abs(np.subtract(_bright_box(out.image), expected)).max() <= 1
    assert (out.image[121:] == 0).all()  # padding below; row 120 blends the edge


@pytest.mark.parametrize("seed", range(20))
def test_affine_keeps_the_box_around_its_object(seed: int) -> None:
    settings = TrainSettings(degrees=10, shear=2, translate=0.1, scale=(0.7, 1.2), flip=0.5)
    out = _moved([_square(80, 120, (50, 30, 70, 50))], 160, seed, settings)
    found = np.array(_bright_box(out.image), np.float32)
    assert np.abs(out.boxes[0] - found).max() < 2.5  # the corners of a turned square blur into the background


@pytest.mark.parametrize("seed", range(20))
def test_mosaic_boxes_lie_on_their_objects(seed: int) -> None:
    samples = [
        _square(80, 120, (30, 30, 60, 60)),
        _square(120, 80, (20, 50, 60, 90)),
        *[_square(64, 64, (8, 8, 40, 40))] * 2,
    ]
    settings = TrainSettings(degrees=0, shear=0, translate=0.1, scale=(0.5, 1.5))
    out = _moved(samples, 128, seed, settings)
    assert len(out.boxes) == len(out.labels) <= 4
    covered = np.zeros((128, 128), bool)
    for left, top, right, bottom in np.rint(out.boxes).astype(int):
        inner = out.image[top + 2 : bottom - 2, left + 2 : right - 2]
        assert inner.size == 0 or inner.min() > 150
        covered[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = True
    outside = out.image[..., 0][~covered]
    dropped, largest = 4 - len(out.boxes), (32 * 128 / 64 * 1.5) ** 2
    assert (outside > 150).sum() <= dropped * MIN_VISIBLE * largest  # boxes cut to slivers are bright and unmarked


def test_mosaic_without_movement_meets_in_the_middle_of_four() -> None:
    samples = [_square(64, 64, (0, 0, 64, 64), value=value) for value in (200, 210, 220, 230)]
    out = _moved(samples, 64, 1, STILL)
    values = {int(v) for v in np.unique(out.image)}
    assert values & {200, 210, 220, 230}
    for (left, top, right, bottom), value in zip(np.rint(out.boxes).astype(int), (200, 210, 220, 230), strict=False):
        assert abs(int(np.median(out.image[top:bottom, left:right])) - value) <= 30


def test_boxes_that_leave_are_dropped() -> None:
    boxes = np.array(
        [[-50, 10, 2, 30], [10, 10, 11.5, 40], [90, 10, 140, 40], [0, 0, 100, 4], [10, 10, 40, 40]], np.float32
    )
    cut, keep = clip_boxes(boxes, 100)
    assert keep.tolist() == [False, False, True, False, True]
    assert cut[2].tolist() == [90, 10, 100, 40]


def test_transform_takes_the_bounding_box() -> None:
    turn = np.array([[0.0, -1, 100], [1, 0, 0], [0, 0, 1]])
    assert transform_boxes(np.array([[10, 20, 30, 60]], np.float32), turn).tolist() == [[40, 10, 80, 30]]
    assert transform_boxes(np.zeros((0, 4), np.float32), turn).shape == (0, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample") / "set", 10, 4, 96)


@pytest.fixture(scope="module")
def split(folder: Path):
    return read_coco(folder / "train.json", folder / "images")


def _loader(split, **settings) -> TrainLoader:
    return TrainLoader(split, Preprocess((64, 64), 1), TrainSettings(batch=4, seed=5, **settings))


def _same(a, b) -> bool:
    return np.array_equal(a.images, b.images) and all(map(np.array_equal, a.boxes, b.boxes))


@pytest.mark.parametrize("augment", [True, False])
def test_batches_depend_on_seed_and_epoch_alone(split, augment: bool) -> None:
    first = list(_loader(split).epoch(3, augment))
    threaded = list(_loader(split, workers=3).epoch(3, augment))
    assert len(first) == len(threaded) == 2
    assert all(map(_same, first, threaded))
    assert not _same(first[0], next(_loader(split).epoch(4, augment)))


def test_plain_batches_equal_the_letterbox(split) -> None:
    """What training sees in its last epochs is what evaluation and the board see, pixel for pixel."""
    loader = _loader(split, flip=0)
    order = np.random.default_rng((5, 2, 0)).permutation(10)
    batch = next(loader.epoch(0, False))
    for image, index in zip(batch.images, order, strict=False):
        expected, _ = letterbox(read_image(split.images[index].path, 1), loader.preprocess)
        assert np.array_equal(image, expected)


def test_multiscale_sides_are_multiples_of_32_within_range(split) -> None:
    loader = _loader(split, multiscale=(0.5, 1.5))
    sides = {loader.side(epoch, step, True) for epoch in range(20) for step in range(2)}
    assert sides == {32, 64, 96}
    assert loader.side(0, 0, False) == 64
    assert loader.pixels(True) == pytest.approx(8 * (32**2 + 64**2 + 96**2) / 3)


def test_an_empty_split_is_refused(split) -> None:
    with pytest.raises(ToolError, match="no image"):
        _loader(split.first(0))


@pytest.mark.parametrize("seed", range(20))
def test_mixup_keeps_both_images_boxes_on_their_objects(seed: int) -> None:
    first = _plain(_square(64, 64, (4, 4, 24, 24)), 64, 0)
    out = mixup(first, _square(60, 90, (20, 10, 60, 50)), np.random.default_rng(seed), TrainSettings())
    assert out.image.shape == first.image.shape and out.image.dtype == np.uint8
    assert out.boxes[0].tolist() == [4, 4, 24, 24] and len(out.boxes) == len(out.labels) <= 2
    left, top, right, bottom = np.rint(out.boxes[-1]).astype(int)
    inner = out.image[top + 2 : bottom - 2, left + 2 : right - 2]
    assert inner.size == 0 or inner.min() >= (50 + 255) // 2
    assert (out.image[6:22, 6:22] >= 255 // 2).all()


def test_mixup_blends_half_and_half() -> None:
    first = Sample(np.full((64, 64, 1), 100, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    second = Sample(np.full((64, 64, 1), 200, np.uint8), np.array([[8, 8, 40, 40]], np.float32), np.array([2]))
    out = mixup(first, second, np.random.default_rng(0), TrainSettings(mixup_scale=(1, 1), flip=0))
    assert (out.image == 150).all() and out.boxes.tolist() == [[8, 8, 40, 40]] and out.labels.tolist() == [2]


@pytest.mark.parametrize("seed", range(10))
def test_only_the_part_that_an_image_reaches_is_drawn(seed: int) -> None:
    """Each warp of a mosaic into a part of the canvas, against one over the whole of it."""
    import cv2

    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 80, 1), np.uint8), (5, 5), 0)[..., None]
    matrix = random_affines(64, Chances.draw(rng, 1), TrainSettings())[0] @ np.array(
        [[1.0, 0, rng.uniform(-90, 30)], [0, 1, -20], [0, 0, 1]]
    )
    half = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    whole, part = np.full((64, 64, 1), 7, np.uint8), np.full((64, 64, 1), 7, np.uint8)
    centres = (np.linalg.inv(half) @ matrix @ half)[:2]
    cv2.warpAffine(image, centres, (64, 64), dst=whole, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    warp(image, matrix, part)
    assert np.abs(whole.astype(int) - part).max() <= 1 and (whole == part).mean() > 0.99


def test_an_image_beside_the_canvas_draws_nothing() -> None:
    canvas = np.full((32, 32, 1), 9, np.uint8)
    for x, y in ((100, 0), (-100, 0), (0, 100), (0, -100)):
        warp(np.full((20, 20, 1), 200, np.uint8), np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]]), canvas)
    assert (canvas == 9).all()


def test_jitter_of_gray_changes_tones_and_leaves_black() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    seen = [jittered(ramp, np.random.default_rng(seed), (0.0, 0.5, 0.4)).ravel().astype(int) for seed in range(50)]
    for values in seen:
        assert values[0] == 0 and (np.diff(values) >= 0).all()
    middle = [values[128] for values in seen]
    assert min(middle) < 90 and max(middle) > 160
    assert np.array_equal(jittered(ramp, np.random.default_rng(0), (0.5, 0.0, 0.0)), ramp)  # gray has no hue


def test_jitter_of_colours_moves_hue_saturation_and_value() -> None:
    import cv2

    hsv = np.full((8, 8, 3), (60, 100, 150), np.uint8)
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    for place, amount in enumerate(np.eye(3) * 0.2):
        found = []
        for seed in range(30):
            out = jittered(image, np.random.default_rng(seed), tuple(amount))
            assert out.shape == image.shape and out.dtype == np.uint8
            found.append(cv2.cvtColor(out, cv2.COLOR_BGR2HSV)[0, 0].astype(int))
        spread = np.ptp(found, axis=0)
        limit = (72, 40, 60)[place]  # 2 · 0.2 of 180 hues, of 100, of 150
        assert limit / 2 < spread[place] <= limit + 3 and (np.delete(spread, place) <= 4).all()
    assert np.abs(jittered(image, np.random.default_rng(0), (0.0, 0.0, 0.0)).astype(int) - image).max() <= 2
    red = cv2.cvtColor(np.full((4, 4, 3), (1, 200, 200), np.uint8), cv2.COLOR_HSV2BGR)
    hues = {
        int(cv2.cvtColor(jittered(red, np.random.default_rng(s), (0.05, 0, 0)), cv2.COLOR_BGR2HSV)[0, 0, 0])
        for s in range(30)
    }
    assert any(hue > 170 for hue in hues) and any(hue < 10 for hue in hues)  # a circle
