"""Inputs drawn by torch, as on a GPU, against those that OpenCV draws."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.data.augment import Chances, moved, plain  # noqa: E402
from lowwatt.data.layout import Layouts, Sample, drawn  # noqa: E402
from lowwatt.recipe import TrainSettings  # noqa: E402
from lowwatt.training import draw  # noqa: E402

CPU = torch.device("cpu")


def samples(count: int, channels: int) -> list[Sample]:
    """Smooth images of all shapes, so that a hundredth of a pixel is not seen."""
    import cv2

    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        height, width = rng.integers(20, 120, 2)
        image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, channels), np.uint8), (0, 0), 3)
        boxes = np.array([[2, 3, width - 4, height - 2]], np.float32)
        found.append(Sample(image.reshape(height, width, channels), boxes, np.array([1])))
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pad", [0, 114])
def test_mosaics_and_single_images_in_one_batch(channels: int, pad: int) -> None:
    images = samples(25, channels)
    rows = [images[4 * i : 4 * i + 4] for i in range(5)] + [[image] for image in images[20:]]
    layouts = moved(rows, 96, Chances.draw(np.random.default_rng(1), 10), TrainSettings(), pad)
    found = draw.drawn(Layouts.of(layouts), CPU).numpy()
    for layout, own in zip(layouts, found, strict=True):
        expected = drawn(layout).image
        apart = np.abs(own.astype(int) - expected.astype(int)).max(2)
        edge = _edges(layout)
        assert apart[~edge].max() <= 2  # OpenCV places colours to a 32nd of a pixel
        assert edge.mean() < 0.2 and own.shape == expected.shape


def _edges(layout) -> np.ndarray:
    """Pixels near the edge of one of the images, seen or not: half a pixel of it or of the input, and some more."""
    y, x = np.mgrid[: layout.side, : layout.side] + 0.5
    edge = np.zeros((layout.side, layout.side), bool)
    for image, matrix in zip(layout.images, layout.maps, strict=True):
        scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        own_x, own_y, _ = np.linalg.inv(matrix) @ np.stack((x.ravel(), y.ravel(), np.ones(x.size)))
        height, width = image.shape[:2]
        outside = np.maximum(np.abs(own_x - width / 2) - width / 2, np.abs(own_y - height / 2) - height / 2)
        edge |= (np.abs(outside) < max(0.6, 1.5 / scale)).reshape(edge.shape)
    return edge


def test_whole_images_are_the_letterbox_to_the_bit() -> None:
    square = [
        Sample(
            np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
        )
    ]
    layouts = plain(square, 64, Chances.draw(np.random.default_rng(0), 1), flip=1.0)
    assert np.array_equal(draw.drawn(Layouts.of(layouts), CPU).numpy()[0], square[0].image[:, ::-1])


def test_layouts_know_their_shape() -> None:
    layouts = plain(samples(3, 3), 32, Chances.draw(np.random.default_rng(0), 3), flip=0.0)
    packed = Layouts.of(layouts)
    assert len(packed) == 3 and packed.shape == (3, 32, 32, 3)
    assert len(packed.pixels) == sum(layout.images[0].size for layout in layouts)
