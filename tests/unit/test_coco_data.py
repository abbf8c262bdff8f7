"""The COCO reader, the checks of a data set, and the embedded sample set."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from lowwatt.data.check import check, sample_sheet
from lowwatt.data.coco import read_coco
from lowwatt.data.sample import _digit_pools, make_sample
from lowwatt.errors import ToolError

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def _annotation(identity: int, image: int, category: int, box: list[float], **more) -> dict:
    return {
        "id": identity, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
        **more,
    }  # fmt: skip


def _write(folder: Path, annotations: list[dict], categories=CATEGORIES, sizes=((20, 30), (20, 30))) -> Path:
    images = []
    (folder / "images").mkdir(exist_ok=True)
    for number, (height, width) in enumerate(sizes, 1):
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), np.full((height, width), 99, np.uint8))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    path = folder / "train.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_labels_follow_ascending_category_ids(tmp_path: Path) -> None:
    boxes = [_annotation(1, 1, 90, [1, 2, 3, 4]), _annotation(2, 1, 1, [5.5, 6, 7, 8], iscrowd=1, area=11.5)]
    data = read_coco(_write(tmp_path, boxes), tmp_path / "images")
    assert data.labels == ("person", "dog", "toothbrush")
    assert data.category_ids == (1, 18, 90)
    assert data.boxes[0].label.tolist() == [2, 0]
    assert data.boxes[0].crowd.tolist() == [False, True]
    assert data.boxes[0].area.tolist() == [12.0, 11.5]
    assert data.boxes[0].xyxy.tolist() == [[1, 2, 4, 6], [5.5, 6, 12.5, 14]]


def test_images_without_annotations_are_kept(tmp_path: Path) -> None:
    data = read_coco(_write(tmp_path, [_annotation(1, 2, 1, [1, 2, 3, 4])]), tmp_path / "images")
    assert [len(b) for b in data.boxes] == [0, 1]
    assert data.boxes[0].xyxy.shape == (0, 4)


def test_a_class_subset_keeps_its_order_and_all_images(tmp_path: Path) -> None:
    boxes = [_annotation(1, 1, 90, [1, 2, 3, 4]), _annotation(2, 1, 1, [5, 6, 7, 8])]
    data = read_coco(_write(tmp_path, boxes), tmp_path / "images", ["toothbrush", "dog"])
    assert (data.labels, data.category_ids) == (("toothbrush", "dog"), (90, 18))
    assert [b.label.tolist() for b in data.boxes] == [[0], []]
    with pytest.raises(ToolError, match="no class 'persn'") as error:
        read_coco(data.source, tmp_path / "images", ["persn"])
    assert "person" in error.value.hint


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (_annotation(1, 9, 1, [1, 2, 3, 4]), "unknown image id"),
        (_annotation(1, 1, 7, [1, 2, 3, 4]), "unknown category id"),
        ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}, "malformed annotation"),
        ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, "x"]}, "malformed annotation"),
        ({"id": 1, "image_id": 1, "category_id": 1, "bbox": None}, "malformed annotation"),
        ({"id": 1, "image_id": [1], "category_id": 1, "bbox": [1, 2, 3, 4]}, "malformed annotation"),
        ({"id": 1, "image_id": 1, "category_id": 1}, "malformed annotation"),
        ("text", "malformed annotation"),
    ],
)
def test_unusable_annotations_are_left_out_and_told(tmp_path: Path, row, kind: str) -> None:
    good = _annotation(2, 1, 1, [1, 2, 3, 4])
    data = read_coco(_write(tmp_path, [row, good]), tmp_path / "images")
    assert [p.kind for p in data.problems] == [kind]
    assert sum(map(len, data.boxes)) == 1


def test_duplicate_ids_are_told(tmp_path: Path) -> None:
    data = read_coco(_write(tmp_path, [_annotation(1, 1, 1, [1, 2, 3, 4])] * 2), tmp_path / "images")
    assert [p.kind for p in data.problems] == ["duplicate annotation id"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"images": [], "annotations": [], "categories": []}', "{" * 5000, '{"images": 3}', "\x00\xff"],
)
def test_foreign_files_end_in_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(ToolError):
        read_coco(path, tmp_path)


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    boxes = [_annotation(i, 1, c["id"], [1, 2, 3, 4]) for i, c in enumerate(CATEGORIES)]
    assert check(read_coco(_write(tmp_path, boxes), tmp_path / "images")) == []


def test_check_finds_what_is_planted(tmp_path: Path) -> None:
    boxes = [
        _annotation(1, 1, 1, [25, 2, 10, 4]),
        _annotation(2, 1, 18, [5, 2, 0, 4]),
        _annotation(3, 1, 4, [5, 2, 3, 4]),
    ]
    path = _write(tmp_path, boxes, sizes=((20, 30),) * 4)
    cv2.imwrite(str(tmp_path / "images/2.png"), np.zeros((8, 8), np.uint8))
    (tmp_path / "images/3.png").write_bytes(b"no picture")
    (tmp_path / "images/4.png").unlink()
    found = check(read_coco(path, tmp_path / "images"))
    assert {(f.kind, f.where) for f in found} == {
        ("box outside the image", "1.png"),
        ("box without area", "1.png"),
        ("unknown category id", "annotation 3"),
        ("wrong image size", "2.png"),
        ("broken image", "3.png"),
        ("missing image", "4.png"),
        ("empty class", "toothbrush"),
    }


def test_the_sheet_is_an_image_even_with_broken_pictures(tmp_path: Path) -> None:
    path = _write(tmp_path, [_annotation(1, 1, 1, [2, 3, 10, 10])])
    (tmp_path / "images/2.png").write_bytes(b"")
    sample_sheet(read_coco(path, tmp_path / "images"), tmp_path / "sheet.png", 5)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (240, 480, 3)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 3  # a box is drawn


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_sample_set_is_deterministic_and_sound(tmp_path: Path) -> None:
    one, two = (make_sample(tmp_path / name, 12, 5, 96, seed=3) for name in ("a", "b"))
    assert _content(one) == _content(two)
    assert _content(one) != _content(make_sample(tmp_path / "c", 12, 5, 96, seed=4))
    train, val = (read_coco(one / f"{split}.json", one / "images") for split in ("train", "val"))
    assert (len(train), len(val)) == (12, 5)
    assert not {i.path for i in train.images} & {i.path for i in val.images}
    assert {f.kind for f in check(train) + check(val)} <= {"empty class"}


def test_sample_splits_share_no_digit() -> None:
    pools = _digit_pools(0)
    train, val = ({image.tobytes() for image in pools[split][0]} for split in ("train", "val"))
    assert len(train) > 1000 and len(val) > 400
    assert not train & val


def test_sample_set_started_twice_at_once_is_made_whole(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: make_sample(tmp_path / "set", 6, 3, 64), range(4)))
    assert set(folders) == {tmp_path / "set"}
    assert len(_content(tmp_path / "set")) == 9 + 3
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
