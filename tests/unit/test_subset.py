"""Subsets of large annotation files: streamed, balanced, the same each time, in the map's classes."""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lowwatt.data import json_stream
from lowwatt.data.class_maps import ClassMap
from lowwatt.data.coco import read_coco
from lowwatt.data.json_stream import stream_arrays
from lowwatt.data.subset import make_subset
from lowwatt.errors import ToolError

BIRDS = ClassMap(("bird", "lamp"), (("Wild Bird", "Duck"), ("Lamp",)))


def _write(path: Path, images: int = 200, order: tuple[str, ...] = ("images", "annotations", "categories")) -> Path:
    """Lamps on nearly all images, birds and ducks on few."""
    rng = np.random.default_rng(0)
    rows, kinds = [], [(1, 0.9), (7, 0.05), (9, 0.03), (4, 0.5)]
    for image in range(images):
        for category, chance in kinds:
            if rng.random() < chance:
                box = rng.integers(1, 50, 4).tolist()
                rows.append({"id": len(rows), "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0})
    names = {1: "lamp ", 7: "Wild Bird", 9: "Duck", 4: "Hat"}
    content = {
        "images": [{"id": k, "file_name": f"patch{k % 3}/ü{k}.jpg", "width": 99, "height": 90} for k in range(images)],
        "annotations": rows,
        "categories": [{"id": k, "name": name} for k, name in names.items()],
    }
    path.write_text(json.dumps({"info": {"a": [1, {"b": "]"}]}, "n": 12, **{key: content[key] for key in order}}))
    return path


def test_names_become_classes_and_the_rest_is_left_out(tmp_path: Path) -> None:
    source = _write(tmp_path / "all.json")
    made = make_subset(source, tmp_path / "out.json", BIRDS)
    data = read_coco(made.annotations, tmp_path)
    assert data.labels == ("bird", "lamp")
    assert data.problems == ()
    whole = json.loads(source.read_text())
    expected = sum(row["category_id"] in (7, 9) for row in whole["annotations"])
    assert made.boxes["bird"] == expected == sum(int((b.label == 0).sum()) for b in data.boxes)
    assert all(len(boxes) for boxes in data.boxes)
    assert made.files.read_text().splitlines() == sorted(str(i.path.relative_to(tmp_path)) for i in data.images)


def test_rare_classes_get_their_share(tmp_path: Path) -> None:
    source = _write(tmp_path / "all.json")
    data = read_coco(make_subset(source, tmp_path / "out.json", BIRDS, images=20).annotations, tmp_path)
    assert len(data) == 20
    with_bird, with_lamp = (sum((boxes.label == k).any() for boxes in data.boxes) for k in (0, 1))
    assert with_bird >= 9  # at random it would be one or two
    assert abs(with_bird - with_lamp) <= 11  # a bird's picture has its lamp, too


def test_enough_of_a_class_is_enough(tmp_path: Path) -> None:
    source = _write(tmp_path / "all.json")
    data = read_coco(make_subset(source, tmp_path / "out.json", BIRDS, per_class=5).annotations, tmp_path)
    assert sum((boxes.label == 0).any() for boxes in data.boxes) == 5
    assert 5 <= len(data) <= 10


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    source = _write(tmp_path / "all.json")
    one, two, other = (
        make_subset(source, tmp_path / f"{k}.json", BIRDS, images=30, seed=seed) for k, seed in enumerate((1, 1, 2))
    )
    assert one.annotations.read_bytes() == two.annotations.read_bytes()
    assert one.files.read_bytes() == two.files.read_bytes() != other.files.read_bytes()


def test_the_order_of_the_lists_does_not_matter(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.json")
    two = _write(tmp_path / "b.json", order=("categories", "annotations", "images"))
    made = [make_subset(path, tmp_path / f"out_{path.name}", images=30) for path in (one, two)]
    assert made[0].files.read_bytes() == made[1].files.read_bytes()
    assert made[0].boxes == made[1].boxes
    assert list(made[0].boxes) == ["lamp ", "Hat", "Wild Bird", "Duck"]  # without a map, the file's own classes


def test_absent_names_are_told_and_absent_classes_refused(tmp_path: Path) -> None:
    source = _write(tmp_path / "all.json")
    more = ClassMap(("bird",), (("Wild Bird", "Swan"),))
    assert make_subset(source, tmp_path / "out.json", more).absent == ("Swan",)
    with pytest.raises(ToolError, match="no category stands for boat"):
        make_subset(source, tmp_path / "out.json", ClassMap(("boat",), (("Ship",),)))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_streaming_equals_reading_whole(tmp_path: Path, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = _write(tmp_path / "all.json", images=9)
    expected = [(key, item) for key, rows in json.loads(path.read_text()).items() if key not in ("info", "n")
                for item in rows]  # fmt: skip
    assert list(stream_arrays(path)) == expected
    path.write_text(' { "a" : [ 1.5, -20, 3e-5, "x\\"]", null , [1, 2], {} ] , "b": [], "c": 12 } ')
    assert [item for _, item in stream_arrays(path)] == [1.5, -20, 3e-5, 'x"]', None, [1, 2], {}]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    row = json.dumps({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1.5] * 300]})
    path.write_text('{"annotations": [' + ",\n".join([row] * 16000) + "]}")
    assert path.stat().st_size > 24e6
    tracemalloc.start()
    assert sum(1 for _ in stream_arrays(path)) == 16000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": [1', '{"a": [1,]}', '{"a": [1 2]}', "{1: []}", "\x00"])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ToolError):
        list(stream_arrays(path))


def test_damaged_files_end_in_a_clear_error(tmp_path: Path) -> None:
    whole, path = _write(tmp_path / "all.json", images=8).read_bytes(), tmp_path / "damaged.json"
    rng = random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole[: rng.choice((len(whole), rng.randrange(len(whole))))])
        for _ in range(rng.randrange(1, 9)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ToolError):
            make_subset(path, tmp_path / "out.json", BIRDS, images=3)
