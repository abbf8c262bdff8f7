"""The pipeline: everything overlaps, nothing is lost or goes out of order, every run ends and leaves no thread."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fault_images import BAD, SOUND, fault_images
from lowwatt.backends import open_backend
from lowwatt.errors import ToolError
from lowwatt.letterbox import letterbox
from lowwatt.meters import open_meter
from lowwatt.runtime import Engine, sources
from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for
from lowwatt.runtime.sources import frames_of, length_of
from lowwatt.types import Array, Preprocess, QuantParams
from small_detector import HEIGHT, WIDTH, picture, small_detector


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def run(
    items: Iterable[Any], *steps: Callable[[Any], Any], workers: int = 1, **options: Any
) -> Generator[Any, None, None]:
    """The values that plain functions give; the slot's item is the value on its way."""

    def stage(step: Callable[[Any], Any]) -> Callable[[Slot], None]:
        def work(slot: Slot) -> None:
            slot.item = step(slot.item)

        return work

    stages = [Stage(f"stage {index}", [stage(step)] * workers) for index, step in enumerate(steps)]
    slots = [Slot() for _ in range(options.pop("slots", slots_for(stages)))]
    for slot in run_stages((item for item in items), stages, slots, **options):
        if slot.error is not None:
            raise slot.error
        yield slot.item


def nap(item: int) -> int:
    time.sleep(0.02)
    return item


# -- the stages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 1001])
def test_every_item_in_order(count: int, workers: int) -> None:
    found = list(run(range(count), lambda x: x + 1, lambda x: x * x, workers=workers))
    assert found == [(x + 1) ** 2 for x in range(count)]


def test_order_where_later_items_are_sooner_done() -> None:
    def uneven(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item

    assert list(run(range(60), uneven, uneven, workers=4)) == list(range(60))


def test_stages_overlap_and_workers_share() -> None:
    """Three stages of 20 ms on ten items are 600 ms one after the other; one stage with four workers, 50."""
    for steps, workers, limit in (([nap] * 3, 1, 0.5), ([nap], 4, 0.19)):
        start = time.perf_counter()
        assert list(run(range(10), *steps, workers=workers)) == list(range(10))
        assert time.perf_counter() - start < limit


def test_a_slow_reader_holds_the_whole_line_back() -> None:
    taken: list[int] = []

    def count() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = run(count(), lambda x: x, lambda x: x, slots=5)
    next(results)
    time.sleep(0.2)
    assert len(taken) == 5, "one at the caller, the others wait; one bound on all of them"
    results.close()


def test_slots_are_used_again() -> None:
    slots = [Slot() for _ in range(3)]
    seen = {id(slot) for slot in run_stages((i for i in range(50)), [Stage("a", [lambda slot: None])], slots)}
    assert seen <= {id(slot) for slot in slots}


@pytest.mark.parametrize("position", ["source", "first", "last"])
def test_results_before_a_failure_are_given(position: str) -> None:
    def fail_at_three(item: int) -> int:
        if item == 3:
            raise KeyError("three")
        return item

    stages = [fail_at_three if position == "first" else int, fail_at_three if position == "last" else int]
    items = map(fail_at_three, range(9)) if position == "source" else range(9)
    found = []
    with pytest.raises(KeyError, match="three"):
        for item in run(items, *stages, workers=2):
            found.append(item)
    assert found == [0, 1, 2]


def test_later_stages_do_not_see_what_failed() -> None:
    seen: list[int] = []

    def odd(slot: Slot) -> None:
        if slot.item % 2:
            raise ValueError("odd")

    stages = [Stage("even only", [odd]), Stage("look", [lambda slot: seen.append(slot.item)])]
    finished = run_stages((i for i in range(5)), stages, [Slot() for _ in range(5)])
    failed = [(slot.item, slot.stage) for slot in finished if slot.error is not None]
    assert seen == [0, 2, 4] and failed == [(1, "even only"), (3, "even only")]


def test_closing_early_joins_every_thread_and_closes_the_source() -> None:
    closed = []

    def endless() -> Iterator[int]:
        try:
            yield from iter(int, 1)
        finally:
            closed.append(True)

    before = threading.active_count()
    results = run(endless(), lambda x: x, nap)
    next(results)
    assert threading.active_count() == before + 3
    results.close()
    assert threading.active_count() == before and closed == [True]


def test_a_source_that_waits_for_ever_does_not_hold_up_the_end() -> None:
    release = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        release.wait(20)

    results = run(source(), int)
    assert next(results) == 1
    start = time.perf_counter()
    results.close()
    assert time.perf_counter() - start < 5
    release.set()
    time.sleep(0.1)


def test_leaving_the_loop_is_enough() -> None:
    for result in Engine(small_detector()).stream([picture()] * 50):
        assert result.frame == 0
        break


def test_a_stage_that_hangs_is_named() -> None:
    release = threading.Event()

    def hang(item: str) -> str:
        return item if item != "b.jpg" else str(release.wait(20))

    found = []
    with pytest.raises(ToolError, match="hangs") as error:
        for item in run(["a.jpg", "b.jpg", "c.jpg"], hang, timeout=0.2):
            found.append(item)
    assert found == ["a.jpg"]
    assert error.value.where == "b.jpg" and "stage 0 has not answered for 0." in error.value.why
    release.set()
    time.sleep(0.1)


# -- the network's input ---------------------------------------------------------------------------------------


def test_int8_goes_into_the_backend_from_a_few_buffers() -> None:
    seen = set()

    class Looking(Accelerator):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            (values,) = inputs.values()
            seen.add((values.dtype, values.__array_interface__["data"][0]))
            return super().run(inputs)

    engine = Engine(small_detector(), Looking(0))  # type: ignore[arg-type]
    assert len(list(engine.stream([picture((1, 1))] * 60))) == 60
    assert {dtype for dtype, _ in seen} == {np.dtype(np.int8)}
    assert len(seen) <= slots_for(engine.stages()), "as many as there are slots, however many images"


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_left_out(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    preprocess = Preprocess((8, 8), channels)
    np.testing.assert_array_equal(letterbox(image, preprocess)[0], letterbox(image[:, :, :3], preprocess)[0])


# -- several accelerators, several parts -----------------------------------------------------------------------


class Accelerator:
    """A backend that needs time but no processor, and cannot do two things at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self._inner = open_backend("core", small_detector())
        self._seconds, self._busy = seconds, threading.Lock()
        self.runs = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert self._busy.acquire(blocking=False), "one worker a runner"
        time.sleep(self._seconds)
        self.runs += 1
        self._busy.release()
        return self._inner.run(inputs)


CELLS = [(row, column) for row in range(HEIGHT // 8) for column in range(WIDTH // 8)]


def test_several_accelerators_share_the_images_and_keep_their_order() -> None:
    accelerators = [Accelerator(0.02), Accelerator(0.03), Accelerator(0.02)]
    engine = Engine(small_detector(), accelerators)  # type: ignore[arg-type]
    start = time.perf_counter()
    results = list(engine.stream(picture(CELLS[i % len(CELLS)]) for i in range(31)))
    assert time.perf_counter() - start < 0.5, "31 images of 20 ms and more are 620 ms on one"
    assert [r.frame for r in results] == list(range(31)) and sum(a.runs for a in accelerators) == 31
    assert min(a.runs for a in accelerators) > 4
    for i, result in enumerate(results):
        (box,) = result.detections.xyxy
        assert (int(box[1]) // 8, int(box[0]) // 8) == CELLS[i % len(CELLS)]


def test_backends_that_cut_the_network_differently_cannot_share() -> None:
    from lowwatt.backends import Part

    class Parts(Accelerator):
        parts = (Part("a", dict), Part("b", dict))

    with pytest.raises(ToolError, match="cannot share"):
        Engine(small_detector(), ["core", Parts()])  # type: ignore[list-item]
    with pytest.raises(ToolError, match="no backend"):
        Engine(small_detector(), [])


def test_a_middle_on_the_host_keeps_the_pipeline_full() -> None:
    from lowwatt.backends import Part

    class TwoParts(Accelerator):
        def __init__(self) -> None:
            super().__init__()
            self.parts = (Part("infer 1 dpu", self._first), Part("infer 2 host", self.run))

        def _first(self, values: Mapping[str, Array]) -> dict[str, Array]:
            time.sleep(0.02)
            return dict(values)

    start = time.perf_counter()
    results = list(Engine(small_detector(), TwoParts()).stream([picture()] * 20))  # type: ignore[arg-type]
    assert time.perf_counter() - start < 0.7, "20 images of 40 ms would be 800 ms"
    assert {"infer 1 dpu", "infer 2 host"} <= set(results[0].timing)


def test_the_segments_of_a_program_give_what_the_whole_graph_gives() -> None:
    from lowwatt.compiler import compile as compile_graph

    graph = small_detector()
    graph.add("sigmoid", ["cls"], "cls_sure", quant=QuantParams.power_of_two(7))
    graph.outputs.append("cls_sure")
    program = compile_graph(graph, "ultra96v2-lpcv")
    assert [segment.side for segment in program.segments] == ["dpu", "host"]
    mixed, whole = open_backend("mixed", program), open_backend("reference", graph)
    values = {"images": np.random.default_rng(0).integers(0, 128, (3, HEIGHT, WIDTH, 1)).astype(np.int8)}
    for name, expected in whole.run(values).items():
        np.testing.assert_array_equal(mixed.run(values)[name], expected)
    (result,) = Engine(program, "mixed").stream(picture((1, 2)))
    assert len(result.detections) == 1 and {"infer 1 dpu", "infer 2 host"} <= set(result.timing)
    with pytest.raises(ToolError, match="runs programs"):
        open_backend("mixed", graph)


# -- videos and cameras ----------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 12 frames, each a little brighter."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for index in range(12):
        writer.write(np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


def test_every_frame_of_a_video(clip: Path) -> None:
    engine = Engine(small_detector())
    results = list(engine.stream([clip, picture((1, 1)), clip]))
    assert [r.frame for r in results] == list(range(25))
    assert results[3].source == f"{clip} frame 3" and results[13].source == f"{clip} frame 0"
    assert abs(float(np.mean(results[5].image)) - 100) < 5  # type: ignore[arg-type]
    assert results[4].plot().shape[2] == 3 and results[4].timing["read"] > 0


def test_a_video_that_cannot_be_opened_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    results = list(Engine(small_detector()).stream([tmp_path / "a.mp4", picture((1, 1))]))
    assert [bool(r.error) for r in results] == [True, False] and "a.mp4" in results[0].error


class Camera:
    """Every 5 ms a frame that holds its number; after 60 of them it is pulled out."""

    def __init__(self, source: str | int) -> None:
        self.source, self.count, self.released = source, 0, False

    def isOpened(self) -> bool:
        return self.source == 0 or str(self.source).startswith("rtsp://")

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.005)
        self.count += 1
        return self.count <= 60, np.full((HEIGHT, WIDTH, 3), self.count, np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("source", [0, "0", "rtsp://host/door"])
def test_a_camera_leaves_out_the_oldest(monkeypatch: pytest.MonkeyPatch, source: str | int) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    engine = Engine(small_detector(), Accelerator(0.03))  # type: ignore[arg-type]
    numbers, pixels = [], []
    with pytest.raises(ToolError, match="no more images"):
        for result in engine.stream(source):
            numbers.append(result.frame)
            pixels.append(int(result.image[0, 0, 0]))  # type: ignore[index, call-overload]
    assert pixels == [number + 1 for number in numbers], "the number tells how many were left out"
    assert numbers[7] > 7, "few wait inside, so that what is seen is fresh"
    assert numbers == sorted(set(numbers)) and 8 < len(numbers) < 40 and numbers[-1] > 50


def test_a_quick_reader_misses_no_frame_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    results = Engine(small_detector()).stream(0)
    numbers = [next(results).frame for _ in range(30)]
    results.close()
    assert numbers[-1] < 45, "as many as came, but for those that a busy machine was too late for"


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(ToolError, match="cannot open the video") as error:
        list(Engine(small_detector()).stream("rtsp://127.0.0.1:1/nothing"))
    assert "rtsp://127.0.0.1:1/nothing" in error.value.where


def test_lengths(tmp_path: Path, clip: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    assert length_of([picture(), "b.jpg"]) == 2 and length_of(tmp_path / "*.png") == 1
    assert length_of(tmp_path) is None and length_of(0) is None and length_of(iter([picture()])) is None
    assert next(str(f) for f in frames_of(tmp_path)) == str(tmp_path / "a.png")
    assert sources.is_live("3") and sources.is_live(["a.jpg", "0"]) and not sources.is_live("3.jpg")


# -- saving, progress, bench -----------------------------------------------------------------------------------


def test_pictures_are_saved_and_one_that_cannot_be_is_reported(tmp_path: Path, clip: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture((1, 1)))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((1, 70_000), np.uint8))  # JPEG ends at 65,500 pixels a side
    out = tmp_path / "out"
    files = [tmp_path / name for name in ("a.png", "b.png", "a.png")]
    results = list(Engine(small_detector()).stream([*files, clip], save=out))
    names = [Path(r.file).name for r in results]
    assert names[:4] == ["a.jpg", "", "a-1.jpg", "clip-000000.jpg"] and len(results) == 15
    assert sorted(path.name for path in out.iterdir()) == sorted(filter(None, names))
    assert "cannot write the image" in results[1].error and len(results[0].detections) == 1
    assert all("save" in r.timing for r in results if r.file)
    with pytest.raises(ToolError, match="cannot write the image"):
        list(Engine(small_detector()).stream(files, save=out, strict=True))
    with pytest.raises(ToolError, match="overwrite"):
        list(Engine(small_detector()).stream(files, save=tmp_path))


def test_a_result_draws_and_saves_itself(tmp_path: Path) -> None:
    result = Engine(small_detector())(picture((1, 2)))
    assert result.plot().any() and result.save(tmp_path) == tmp_path / "frame-000000.jpg"
    assert cv2.imread(result.file).shape == result.plot().shape


def test_progress_is_told_even_where_the_stream_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    class Told(list[Any]):
        def start(self, total: int) -> None:
            self.append(("start", total))

        def update(self, done: int) -> None:
            self.append(done)

        def finish(self) -> None:
            self.append("finish")

    told = Told()
    results = Engine(small_detector()).stream([picture()] * 5, progress=told)
    for _ in range(3):
        next(results)
    results.close()
    assert told == [("start", 5), 1, 2, "finish"]
    list(Engine(small_detector()).stream([picture()] * 5, progress=True))
    assert "5/5 images" in capsys.readouterr().err


def test_bench_finds_the_bottleneck() -> None:
    bench = Engine(small_detector(), Accelerator(0.01)).bench(seconds=0.5)  # type: ignore[arg-type]
    assert bench.bottleneck == "infer" and "held back by infer" in str(bench)
    assert 20 < bench.fps < 100 and bench.stages["infer"].busy > 0.7 and bench.latency_ms > 10
    assert bench.energy is None and bench.joules_per_frame is None


def test_bench_reads_a_meter() -> None:
    meter = open_meter("modelled", target="ultra96v2-lpcv")
    bench = Engine(small_detector(), Accelerator(0.01)).bench(seconds=0.3, meter=meter)  # type: ignore[arg-type]
    assert bench.joules_per_frame == pytest.approx(0.757 / bench.fps, rel=0.1)
    assert "mJ a frame, modelled" in str(bench)


# -- faults ----------------------------------------------------------------------------------------------------


class Faulty(Accelerator):
    """A backend that does something else at its fifth image."""

    def __init__(self, fault: Callable[[dict[str, Array]], Any]) -> None:
        super().__init__(0)
        self._fault = fault

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = super().run(inputs)
        return found if self.runs != 5 else self._fault(found)


def no_memory(found: dict[str, Array]) -> Any:
    raise MemoryError("device")


FAULTS: list[tuple[Callable[[dict[str, Array]], Any], str]] = [
    (no_memory, "infer failed"),
    (lambda found: {"cls": found["cls"]}, "too little"),
    (lambda found: {name: value[:, :2] for name, value in found.items()}, "too little"),
    (lambda found: None, "failed"),
    (lambda found: time.sleep(0.9), "hangs"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=["raises", "lacks outputs", "cut off", "None", "hangs"])
def test_a_faulty_backend_ends_the_run_behind_the_good_results(
    fault: Callable[[dict[str, Array]], Any], message: str
) -> None:
    engine = Engine(small_detector(), Faulty(fault), timeout=0.3)  # type: ignore[arg-type]
    found = []
    with pytest.raises(ToolError, match=message) as error:
        for result in engine.stream([picture((1, 1))] * 9):
            found.append(result.frame)
    assert found == [0, 1, 2, 3] and "frame 4" in error.value.where


@pytest.mark.parametrize("where", ["source", "read", "preprocess", "infer", "postprocess", "save", "caller"])
def test_ctrl_c_at_any_stage(where: str, repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "tests/interrupted_stream.py"), where, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    last = out.strip().splitlines()[-1].split()
    assert last[:2] == ["threads", "1"] and int(last[3]) >= 3
    assert not list(tmp_path.glob(".*")), "no half-written picture"


@pytest.mark.parametrize("name", [*BAD, *SOUND])
def test_files_as_they_come(name: str, tmp_path: Path) -> None:
    paths = fault_images(tmp_path)
    source: Any = [paths["good"], paths[name], paths["good"]]
    if name == "folder":
        source = tmp_path / "*"  # in a list a folder stands for what is in it
    results = {Path(r.source).name: r for r in Engine(small_detector()).stream(source)}
    result = results[paths[name].name]
    assert bool(result.error) == (name in BAD)
    assert not result.error or paths[name].name in result.error
    assert len(results[paths["good"].name].detections) == 1


def test_a_full_disk_loses_pictures_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(self)
        return plain(self, data)

    plain, written = Path.write_bytes, list[Path]()
    monkeypatch.setattr(Path, "write_bytes", full)
    results = list(Engine(small_detector()).stream([picture((1, 1))] * 5, save=tmp_path))
    assert [bool(r.error) for r in results] == [False, True, True, True, True]
    assert all("No space left" in r.error for r in results[1:]) and all(len(r.detections) == 1 for r in results)
    assert [path.name for path in tmp_path.iterdir()] == ["frame-000000.jpg"]
