"""The engine: right boxes, every image answered in order, clear errors, no thread left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.runtime import Engine
from lowwatt.runtime.draw import class_colour, draw, save
from lowwatt.runtime.sources import images_of
from lowwatt.types import Detections
from small_detector import HEIGHT, LABELS, WIDTH, picture, small_detector

CELLS = [(row, column) for row in range(HEIGHT // 8) for column in range(WIDTH // 8)]


@pytest.fixture
def engine() -> Engine:
    return Engine(small_detector())


def cell_of(box: np.ndarray) -> tuple[int, int]:
    return int((box[1] + box[3]) / 16), int((box[0] + box[2]) / 16)


# -- one image -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["core", "reference", "simulator"])
def test_boxes_of_bright_cells(backend: str) -> None:
    result = Engine(small_detector(), backend)(picture((1, 2), (3, 5)))
    assert sorted(cell_of(box) for box in result.detections.xyxy) == [(1, 2), (3, 5)]
    assert result.detections.names == LABELS and set(result.detections.label) == {0}
    assert set(result.timing) == {"read", "preprocess", "infer", "postprocess"}
    assert all(seconds >= 0 for seconds in result.timing.values())


def test_a_larger_image_gives_boxes_in_its_own_pixels(engine: Engine) -> None:
    image = cv2.resize(picture((1, 2)), (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST)
    (box,) = engine(image).detections.xyxy
    np.testing.assert_allclose(box, [32, 16, 48, 32])


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 4)])
def test_gray_colour_and_alpha(engine: Engine, shape: tuple[int, ...]) -> None:
    image = np.broadcast_to(picture((2, 2)).reshape(HEIGHT, WIDTH, *[1] * (len(shape) - 2)), shape)
    assert [cell_of(box) for box in engine(np.ascontiguousarray(image)).detections.xyxy] == [(2, 2)]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(7, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_image(engine: Engine, image: np.ndarray) -> None:
    with pytest.raises(ToolError, match="image"):
        engine(image)


def test_classes_and_max_det() -> None:
    everything = picture(*CELLS)
    assert len(Engine(small_detector(), conf=0.5)(everything).detections) == len(CELLS)
    assert len(Engine(small_detector(), max_det=3)(everything).detections) == 3
    assert len(Engine(small_detector(), max_det=3, classes=["lamp"])(everything).detections) == 3
    assert len(Engine(small_detector(), classes=[1])(everything).detections) == 0
    with pytest.raises(ToolError, match="no class lamb") as error:
        Engine(small_detector(), classes=["lamb"])
    assert error.value.hint == 'did you mean "lamp"?'


def test_a_path_or_a_program_is_opened(tmp_path: Path) -> None:
    from lowwatt.ir import store

    class Program:
        graph = small_detector()

    store.save(small_detector(), tmp_path / "a.lwg")
    for source in (tmp_path / "a.lwg", str(tmp_path / "a.lwg"), Program()):
        assert len(Engine(source)(picture((0, 0))).detections) == 1


def test_what_is_no_detector() -> None:
    graph = small_detector()
    del graph.meta["head"]
    for source, message in ((graph, "no detection head"), (17, "takes a graph"), (Graph(), "no detection head")):
        with pytest.raises(ToolError, match=message):
            Engine(source)


# -- streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 23])
def test_no_image_is_lost_and_order_is_kept(engine: Engine, count: int) -> None:
    cells = [CELLS[i % len(CELLS)] for i in range(count)]
    results = list(engine.stream(picture(cell) for cell in cells))
    assert [r.frame for r in results] == list(range(count))
    assert [cell_of(r.detections.xyxy[0]) for r in results] == cells


def test_stream_equals_single_calls(engine: Engine) -> None:
    images = [picture(*CELLS[i : i + 3]) for i in range(9)]
    for result, image in zip(engine.stream(images), images, strict=True):
        np.testing.assert_array_equal(result.detections.xyxy, engine(image).detections.xyxy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in the folder, the middle one damaged, and a file of another kind."""
    for index in (0, 2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(CELLS[index]))
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "*.png", "[list]"])
def test_an_unreadable_image_does_not_stop_the_rest(engine: Engine, folder: Path, pattern: str) -> None:
    files = [folder / f"{i}.png" for i in range(3)]
    results = list(engine.stream(files if pattern == "[list]" else folder / pattern))
    assert [r.source for r in results] == [str(file) for file in files]
    assert [len(r.detections) for r in results] == [1, 0, 1]
    assert [bool(r.error) for r in results] == [False, True, False]
    assert "1.png" in results[1].error
    with pytest.raises(ToolError, match="decode"):
        list(engine.stream(files, strict=True))


def test_a_missing_file_is_named(engine: Engine) -> None:
    (result,) = engine.stream("nowhere.jpg")
    assert "nowhere.jpg" in result.error and "No such file" in result.error


def test_a_folder_without_images(engine: Engine, tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(ToolError, match="no images here"):
            list(engine.stream(source))


def test_sources_are_read_as_they_are_needed() -> None:
    endless = (f"{i}.jpg" for i in iter(int, 1))
    assert next(images_of(endless)) == "0.jpg"


def test_a_broken_backend_reaches_the_caller() -> None:
    engine = Engine(small_detector())

    class Broken:
        def run(self, inputs: object) -> object:
            raise RuntimeError("out of order")

    engine.backends = [Broken()]  # type: ignore[list-item]
    before = threading.active_count()
    with pytest.raises(ToolError, match="infer failed") as error:
        list(engine.stream([picture()] * 20))
    assert error.value.where == "frame 0" and error.value.why == "RuntimeError: out of order"
    assert isinstance(error.value.__cause__, RuntimeError)
    assert threading.active_count() == before


# -- drawing ---------------------------------------------------------------------------------------------


def test_draw_leaves_the_image_alone_and_marks_the_box(tmp_path: Path) -> None:
    image = np.zeros((600, 800), np.uint8)
    found = Detections(
        np.array([[100, 200, 300, 400]], np.float32), np.array([0.875], np.float32), np.array([1]), LABELS
    )
    drawn = draw(image, found)
    assert drawn.shape == (600, 800, 3) and not image.any()
    assert tuple(drawn[300, 100]) == class_colour(1)
    assert not drawn[500:, 500:].any()
    save(drawn, tmp_path / "a.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), drawn)


def test_draw_at_the_edges_and_beyond() -> None:
    boxes = np.array([[-50, -50, 10, 10], [630, 470, 900, 900], [0, 0, 640, 480], [5, 5, 5, 5]], np.float32)
    found = Detections(boxes, np.linspace(1, 0, 4, dtype=np.float32), np.array([0, 1, 7, 90]), LABELS)
    assert draw(np.zeros((480, 640, 3), np.uint8), found).any()
    assert max(draw(np.zeros((20, 30, 1), np.uint8), found).shape) >= 640


def test_save_needs_an_image_suffix(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot write the image"):
        save(np.zeros((4, 4, 3), np.uint8), tmp_path / "a.notes")
    assert list(tmp_path.iterdir()) == []
