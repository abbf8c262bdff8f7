"""Batches are the same however they are made: threads, processes, caches; and nothing is left behind."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from lowwatt.data.ahead import THREADS, default_workers, in_order
from lowwatt.data.augment import Chances, moved
from lowwatt.data.balance import epoch_length, epoch_order, repeat_factors
from lowwatt.data.cache import Decoded, InMemory, OnDisk, Samples
from lowwatt.data.coco import CocoData, read_coco
from lowwatt.data.layout import drawn
from lowwatt.data.loader import Batch, TrainLoader
from lowwatt.data.sample import make_sample
from lowwatt.errors import ToolError
from lowwatt.recipe import TrainSettings
from lowwatt.types import Preprocess

EVERYTHING = {"mixup": 0.5, "hsv": (0.02, 0.5, 0.3), "balance": 0.6, "mosaic": 0.7}


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> CocoData:
    folder = make_sample(tmp_path_factory.mktemp("sample") / "set", 22, 4, 96)
    return read_coco(folder / "train.json", folder / "images")


def _loader(split: CocoData, rank: int = 0, world: int = 1, **settings) -> TrainLoader:
    return TrainLoader(split, Preprocess((64, 64), 1), TrainSettings(batch=4, seed=5, **settings), rank, world)


def _same(a: Batch, b: Batch) -> bool:
    labels = all(map(np.array_equal, a.labels, b.labels))
    return np.array_equal(a.images, b.images) and all(map(np.array_equal, a.boxes, b.boxes)) and labels


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]


# -- the same batches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
@pytest.mark.parametrize("workers", [1, 3, None])
def test_any_number_of_threads_gives_the_same_batches(split, settings, workers) -> None:
    alone = list(_loader(split, workers=0, **settings).epoch(2, True))
    threaded = list(_loader(split, workers=workers, **settings).epoch(2, True))
    assert len(alone) == len(threaded) == _loader(split, **settings).steps
    assert all(map(_same, alone, threaded))


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_an_epoch_may_start_at_any_step(split, settings) -> None:
    whole = list(_loader(split, **settings).epoch(1, True))
    for start in range(len(whole) + 1):
        rest = list(_loader(split, workers=1, **settings).epoch(1, True, start))
        assert len(rest) == len(whole) - start and all(map(_same, rest, whole[start:]))


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_processes_share_the_batch_of_one(split, settings) -> None:
    whole = list(_loader(split, **settings).epoch(0, True))
    shares = [list(_loader(split, rank, 2, **settings).epoch(0, True)) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert np.array_equal(batch.images[0::2], first.images) and np.array_equal(batch.images[1::2], second.images)
        assert batch.files[0::2] == first.files and batch.files[1::2] == second.files


def test_new_settings_change_nothing_by_default(split) -> None:
    """The first epoch's order and the mosaic's other images are those of a plain permutation and of all images."""
    order = np.random.default_rng((5, 2, 0)).permutation(len(split))
    files = [name for batch in _loader(split).epoch(0, True) for name in batch.files]
    assert files == [split.images[i].path.name for i in order[: len(files)]]
    loader = _loader(split)
    chances = Chances.draw(np.random.default_rng((5, 3, 0, 0)), loader.batch)
    others = (chances.others[0] * len(split)).astype(int)
    four = [loader.samples[int(i)] for i in (order[0], *others)]
    expected = drawn(moved([four], 64, chances.part(slice(0, 1)), loader.settings)[0])
    assert np.array_equal(next(loader.epoch(0, True)).images[0], expected.image)


# -- balance ----------------------------------------------------------------------------------------------------


def _rare(split: CocoData) -> CocoData:
    """Class 0 on all images but the last two, which have class 1; one image without boxes."""
    boxes = []
    for index, of_image in enumerate(split.boxes):
        count = 0 if index == 0 else 1
        one = {field.name: getattr(of_image, field.name)[:count] for field in dataclasses.fields(of_image)}
        label = np.full(count, int(index >= len(split) - 2), np.int64)
        boxes.append(dataclasses.replace(of_image, **(one | {"label": label, "crowd": np.zeros(count, bool)})))
    return dataclasses.replace(split, boxes=tuple(boxes))


def test_rare_classes_come_more_often(split) -> None:
    factors = repeat_factors(_rare(split), 0.5)
    expected = np.ones(22)
    expected[-2:] = np.sqrt(0.5 / (2 / 22))
    np.testing.assert_allclose(factors, expected)
    assert epoch_length(factors) == round(20 + 2 * 2.345)
    counts = [np.bincount(epoch_order(factors, np.random.default_rng(k)), minlength=22) for k in range(400)]
    assert {int(c.sum()) for c in counts} == {epoch_length(factors)}
    assert np.isin(np.array(counts)[:, -2:], (2, 3)).all()
    np.testing.assert_allclose(np.mean(counts, 0), factors * 25 / factors.sum(), atol=0.12)


def test_balance_counts_in_steps_and_repetitions_differ(split) -> None:
    loader = _loader(_rare(split), balance=0.5)
    assert loader.steps == 25 // 4 and _loader(_rare(split)).steps == 22 // 4
    assert loader.pixels(False) == loader.steps * 4 * 64 * 64
    seen: dict[str, list[np.ndarray]] = {}
    for batch in _loader(_rare(split), balance=0.5, mosaic=0).epoch(0, True):
        for name, image in zip(batch.files, batch.images, strict=True):
            seen.setdefault(name, []).append(image)
    repeated = [images for images in seen.values() if len(images) > 1]
    assert repeated
    for images in repeated:
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(images, 2))


# -- threads ----------------------------------------------------------------------------------------------------


def test_threads_end_with_the_epoch_and_with_a_reader_that_stops(split) -> None:
    loader = _loader(split, workers=3)
    list(loader.epoch(0, True))
    assert not _threads()
    for _ in loader.epoch(0, True):
        assert _threads()
        break
    assert not _threads()
    with pytest.raises(KeyboardInterrupt):
        for _ in loader.epoch(0, True):
            raise KeyboardInterrupt
    assert not _threads()


def test_what_has_not_begun_is_dropped() -> None:
    done: list[int] = []

    def slow(number: int) -> int:
        time.sleep(0.02)
        done.append(number)
        return number

    results = in_order(slow, [(n,) for n in range(100)], 2)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert len(done) <= 7 and not _threads()  # two read, two at work, at most a few made meanwhile


def test_results_wait_for_their_reader() -> None:
    """Memory is bounded: nobody runs far ahead of the reader."""
    begun: list[int] = []
    results = in_order(begun.append, [(n,) for n in range(100)], 2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 5
    results.close()


def test_opencv_keeps_to_one_thread_beside_workers_only(split) -> None:
    before = cv2.getNumThreads()
    for _ in _loader(split, workers=2).epoch(0, True):
        assert cv2.getNumThreads() == 1
        break
    assert cv2.getNumThreads() == before


def test_waiting_is_measured_for_each_epoch(split, monkeypatch) -> None:
    loader = _loader(split, workers=1)
    sample = TrainLoader._layouts

    def slow(*args):
        time.sleep(0.02)
        return sample(*args)

    monkeypatch.setattr(TrainLoader, "_layouts", slow)
    list(loader.epoch(0, True))
    assert loader.waited > loader.steps * 4 * 0.004
    monkeypatch.undo()
    for _ in loader.epoch(1, True):
        time.sleep(0.02)  # the reader is the slow one
    assert 0 < loader.waited < 0.05


def test_the_default_leaves_a_core_to_the_training(monkeypatch) -> None:
    for cores, world, expected in ((1, 1, 0), (2, 1, 1), (2, 2, 0), (16, 1, 4), (16, 8, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert default_workers(world) == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "off", "disk"])
def test_an_unreadable_image_is_named(split, workers, kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bad = dataclasses.replace(split.images[7], path=tmp_path / "broken.jpg")
    bad.path.write_bytes(b"\xff\xd8\xff nothing")
    damaged = dataclasses.replace(split, images=(*split.images[:7], bad, *split.images[8:]))
    with pytest.raises(ToolError, match=r"broken\.jpg"):
        list(_loader(damaged, workers=workers, cache=kind).epoch(0, True))
    assert not _threads()
    assert not list((tmp_path / "cache").rglob("*.images")) and not list((tmp_path / "cache").rglob(".half*"))


# -- caches -----------------------------------------------------------------------------------------------------


def test_memory_keeps_to_its_limit(split) -> None:
    kept = InMemory(Decoded(split.images, 1, 64), 3 * 64 * 64 + 100)
    for _ in range(2):
        assert all(kept[i][0].shape == (64, 64, 1) for i in range(len(split)))
    assert len(kept) == 3 and kept.bytes == 3 * 64 * 64
    wide = Decoded((dataclasses.replace(split.images[0], path=_wide(split)),), 1, 64)
    image, _ = wide[0]
    assert image.shape == (32, 64, 1) and image.base is None  # the padding is not kept with it


def _wide(split: CocoData) -> Path:
    path = split.source.parent / "wide.png"
    cv2.imwrite(str(path), np.zeros((50, 100), np.uint8))
    return path


def test_many_threads_count_an_image_once(split) -> None:
    kept = InMemory(Decoded(split.images, 1, 64), 1 << 30)
    list(in_order(kept.__getitem__, [(i % 22,) for i in range(88)], 4))
    assert len(kept) == 22 and kept.bytes == 22 * 64 * 64


@pytest.mark.parametrize("channels", [1, 3])
def test_all_caches_give_the_same_images(split, tmp_path, channels: int) -> None:
    decoded = Decoded((*split.images, dataclasses.replace(split.images[0], path=_wide(split))), channels, 48)
    for source in (InMemory(decoded, 1 << 30), OnDisk(decoded, tmp_path)):
        for index in [*range(23), 5, 22]:
            assert np.array_equal(source[index][0], decoded[index][0]) and source[index][1] == decoded[index][1]


def test_loaders_read_the_disk_as_the_memory(split, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    epochs = [list(_loader(split, cache=kind, **EVERYTHING).epoch(0, True)) for kind in ("ram", "disk", "off", "disk")]
    for other in epochs[1:]:
        assert len(other) == len(epochs[0]) and all(map(_same, epochs[0], other))
    assert len(list(tmp_path.rglob("*.images"))) == 1


def _copies(split: CocoData, folder: Path) -> CocoData:
    images = []
    for image in split.images[:4]:
        (folder / image.path.name).write_bytes(image.path.read_bytes())
        images.append(dataclasses.replace(image, path=folder / image.path.name))
    return dataclasses.replace(split, images=tuple(images), boxes=split.boxes[:4])


def test_a_file_on_disk_is_made_once_and_anew_where_an_image_changes(split, tmp_path, monkeypatch) -> None:
    images = _copies(split, tmp_path).images
    made: list[Path] = []
    write = OnDisk._write
    monkeypatch.setattr(OnDisk, "_write", lambda self: (made.append(self.path), write(self)))
    first = OnDisk(Decoded(images, 1, 64), tmp_path / "cache")
    OnDisk(Decoded(images, 1, 64), tmp_path / "cache")
    assert len(made) == 1
    old = first[0][0].copy()
    cv2.imwrite(str(images[0].path), np.full((96, 96), 200, np.uint8))
    changed = OnDisk(Decoded(images, 1, 64), tmp_path / "cache")
    assert len(made) == 2 and made[0] == made[1]
    assert (changed[0][0] == 200).all()
    assert np.array_equal(first[0][0], old)  # a run that reads the old file is not disturbed
    assert OnDisk(Decoded(images, 1, 32), tmp_path / "cache").path != made[0]


def test_a_file_cut_short_is_made_anew(split, tmp_path) -> None:
    decoded = Decoded(split.images[:4], 1, 64)
    path = OnDisk(decoded, tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert np.array_equal(OnDisk(decoded, tmp_path)[3][0], decoded[3][0])
    assert path.read_bytes() == whole


def test_two_that_start_at_once_make_one_file(split, tmp_path, monkeypatch) -> None:
    """flock holds between open files, so threads stand for processes here."""
    made: list[int] = []
    write = OnDisk._write

    def slow(self) -> None:
        made.append(1)
        time.sleep(0.1)
        write(self)

    monkeypatch.setattr(OnDisk, "_write", slow)
    found: list[OnDisk] = []
    decoded = Decoded(split.images[:4], 1, 64)
    threads = [threading.Thread(target=lambda: found.append(OnDisk(decoded, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 3
    assert all(np.array_equal(source[1][0], decoded[1][0]) for source in found)


_KILLED = """
import os, signal, sys
from pathlib import Path
from lowwatt.data import cache
from lowwatt.data.coco import CocoImage

read, seen = cache.read_image, []

def dies(path, channels):
    seen.append(path)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path, channels)

cache.read_image = dies
images = tuple(CocoImage(i, Path(path), 96, 96) for i, path in enumerate(sys.argv[2:]))
cache.OnDisk(cache.Decoded(images, 1, 64), Path(sys.argv[1]))
"""


def test_a_process_killed_while_it_writes_leaves_nothing_to_read(split, tmp_path) -> None:
    decoded = Decoded(split.images[:4], 1, 64)
    files = [str(image.path) for image in decoded.images]
    child = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), *files], check=False)
    assert child.returncode == -signal.SIGKILL
    assert all(path.name.startswith(".half-written-") for path in tmp_path.iterdir()) and any(tmp_path.iterdir())
    source = OnDisk(decoded, tmp_path)
    assert np.array_equal(source[3][0], decoded[3][0])
    assert list(tmp_path.iterdir()) == [source.path]


def test_crowds_are_no_targets(split) -> None:
    boxes = split.boxes[int(np.argmax([len(b) for b in split.boxes]))]
    crowd = dataclasses.replace(boxes, crowd=np.ones(len(boxes), bool))
    crowded = dataclasses.replace(split, images=split.images[:1], boxes=(crowd,))
    assert len(Samples(crowded, Decoded(crowded.images, 1, 64), 64)[0].boxes) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
@pytest.mark.parametrize("kind", ["ram", "off", "disk"])
def test_memory_does_not_grow_over_epochs(split, tmp_path, monkeypatch, kind: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loader = TrainLoader(split, Preprocess((256, 256), 1), TrainSettings(batch=4, workers=2, cache=kind))

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    for epoch in range(3):
        list(loader.epoch(epoch, True))
    before = resident()
    for epoch in range(20):
        list(loader.epoch(epoch, True))
    assert resident() - before < 4000  # KiB; the 400 images of these epochs are 26,000


def test_steps_that_cannot_be_shared_evenly_are_refused(split: CocoData) -> None:
    with pytest.raises(ToolError, match="shared evenly") as error:
        _loader(split, rank=0, world=3)
    assert "multiple of 3" in (error.value.hint or "")


def test_a_single_rare_image_comes_more_often_where_the_sum_rounds_down() -> None:
    factors = np.ones(1000)
    factors[7] = 1.45
    seen = [np.count_nonzero(epoch_order(factors, np.random.default_rng(i)) == 7) for i in range(400)]
    assert np.mean(seen) == pytest.approx(1.45, abs=0.1)
