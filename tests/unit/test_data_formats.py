"""YOLO and Pascal VOC, read into the same arrays as COCO."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.data import open_data
from lowwatt.data.check import check
from lowwatt.data.coco import CocoData
from lowwatt.data.image_size import image_size
from lowwatt.data.voc import read_voc
from lowwatt.data.yolo import read_yolo
from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image
from lowwatt.recipe import DataSettings

HEIGHT, WIDTH = 40, 80


def _image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 99, np.uint8))


def _yolo(root: Path, description: str = "names: [cat, dog]\ntrain: images/train\nval: images/val\n") -> Path:
    for name in ("train/a.jpg", "train/b.png", "train/c.jpg", "val/d.jpg"):
        _image(root / "images" / name)
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n\n")
    (root / "labels/train/b.txt").write_text("")
    (root / "data.yaml").write_text(description)
    return root


def _object(name: str = "dog", box: tuple[float, ...] = (1, 1, 80, 40), difficult: int = 0) -> str:
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def _voc(root: Path, annotation: str = "") -> Path:
    for name in ("a", "b", "c"):
        _image(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\nb  1\n")
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    objects = annotation or _object() + _object("cat", (11, 6, 20.5, 15), 1)
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "Annotations/c.xml").write_text(f"<annotation>{_object('bird')}</annotation>")
    return root


def _kinds(data: CocoData) -> list[str]:
    return [problem.kind for problem in data.problems]


def test_yolo_boxes_are_in_pixels(tmp_path: Path) -> None:
    train, val = open_data(DataSettings(root=str(_yolo(tmp_path))))
    assert (train.labels, train.category_ids) == (("cat", "dog"), (0, 1))
    assert [(i.path.name, i.width, i.height) for i in train.images][:2] == [("a.jpg", 80, 40), ("b.png", 80, 40)]
    np.testing.assert_allclose(train.boxes[0].xywh, [[30, 10, 20, 20], [8, 8, 16, 16]], atol=1e-9)
    assert train.boxes[0].label.tolist() == [1, 0]
    assert train.boxes[0].area.tolist() == pytest.approx([400, 256])
    assert [len(b) for b in train.boxes[1:]] == [0, 0]  # empty and absent labels: background
    assert [i.path.name for i in val.images] == ["d.jpg"]
    assert train.problems == ()


def test_a_yolo_description_has_many_forms(tmp_path: Path) -> None:
    plain = _yolo(tmp_path / "a")
    expected = read_yolo(plain, "train").boxes[0].xywh.tolist()
    (plain / "list.txt").write_text("./images/train/a.jpg\n\nimages/train/b.png\n")
    mapping = "names: {0: cat, 1: dog}\n"
    forms = [
        mapping + "train: ../images/train",  # Roboflow's, one step off
        mapping + f"path: {plain}\ntrain: [images/train]",
        mapping + "path: nowhere\ntrain: [images/train, images/val]",
        mapping + "train: list.txt",
    ]
    for form, count in zip(forms, (3, 3, 4, 2), strict=True):
        (plain / "data.yaml").write_text(form)
        data = read_yolo(plain, "train")
        assert len(data) == count
        assert data.boxes[0].xywh.tolist() == expected
    assert read_yolo(plain, "train", ["dog"]).boxes[0].label.tolist() == [0]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("2 0.5 0.5 0.1 0.1", "unknown category id"),
        ("0 0.5 0.5 0.1", "malformed annotation"),
        ("0 0.5 0.5 0.1 0.1 0.9", "malformed annotation"),
        ("-1 0.5 0.5 0.1 0.1", "malformed annotation"),
        ("0 0.5 nan 0.1 0.1", "malformed annotation"),
        ("0 0.5 1e308 0.1 0.1e309", "malformed annotation"),
        ("cat 0.5 0.5 0.1 0.1", "malformed annotation"),
        ("9" * 5000 + " 0.5 0.5 0.1 0.1", "malformed annotation"),
    ],
)
def test_yolo_rows_without_use_are_told(tmp_path: Path, row: str, kind: str) -> None:
    root = _yolo(tmp_path)
    (root / "labels/train/a.txt").write_text(f"{row}\n1 0.5 0.5 0.25 0.5\n")
    data = read_yolo(root, "train")
    assert _kinds(data) == [kind]
    assert data.problems[0].where == "a.txt, line 1"
    assert len(data.boxes[0]) == 1


def test_yolo_boxes_outside_and_broken_images_are_found(tmp_path: Path) -> None:
    root = _yolo(tmp_path)
    (root / "labels/train/a.txt").write_text("0 0.9 0.5 0.5 0.5\n")
    (root / "images/train/c.jpg").write_bytes(b"\xff\xd8 no picture")
    data = read_yolo(root, "train")
    assert {(f.kind, f.where) for f in check(data)} == {
        ("box outside the image", "a.jpg"), ("broken image", "c.jpg"), ("empty class", "dog"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "description",
    ["", "[]", "train: images/train", "names: [a]", "names: {1: a}\ntrain: images/train",
     "names: []\ntrain: images/train",
     "names: [a]\ntrain: 3", "names: [a]\ntrain: nowhere", "names: [a]\ntrain: []", "names: [a]\ntrain: labels",
     "names: [a]\ntrain: [x", "names: [a]\ntrain: 'a\\0b'", "names: [a]\ntrain: " + "x" * 5000],
)  # fmt: skip
def test_yolo_descriptions_without_sense_are_refused(tmp_path: Path, description: str) -> None:
    with pytest.raises(ToolError):
        read_yolo(_yolo(tmp_path, description), "train")


def test_voc_pixels_start_at_one_and_hold_the_last(tmp_path: Path) -> None:
    train, val = open_data(DataSettings(root=str(_voc(tmp_path))))
    assert train.labels == val.labels == ("bird", "cat", "dog")
    assert train.category_ids == (1, 2, 3)
    assert train.boxes[0].xywh.tolist() == [[0, 0, 80, 40], [10, 5, 10.5, 10]]
    assert train.boxes[0].crowd.tolist() == [False, True]
    assert [i.path.name for i in train.images] == ["a.jpg", "b.jpg"]
    assert len(train.boxes[1]) == 0
    assert (val.images[0].width, val.images[0].height) == (80, 40)  # no size stated: the image's own
    assert train.problems == ()


@pytest.mark.parametrize(
    "objects",
    [_object(""), _object(box=("", 1, 2, 3)), _object(box=("nan", 1, 2, 3)), _object(box=(1e99, 1, 2, 3)), "<object/>"],
)
def test_voc_objects_without_use_are_told(tmp_path: Path, objects: str) -> None:
    data = read_voc(_voc(tmp_path, objects + _object()), "train")
    assert _kinds(data) == ["malformed annotation"]
    assert data.problems[0].where == "a.xml, object 1"
    assert len(data.boxes[0]) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(tmp_path: Path, encoding: str) -> None:
    root = _voc(tmp_path)
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "dog">]>'
    (root / "Annotations/a.xml").write_text(f"{bomb}<annotation>{_object('&b;')}</annotation>", encoding=encoding)
    data = read_voc(root, "train")
    assert _kinds(data) == ["malformed annotation"]
    assert "DOCTYPE" in data.problems[0].what
    assert data.labels == ("bird",)


def test_voc_images_that_are_not_there_are_told(tmp_path: Path) -> None:
    root = _voc(tmp_path)
    (root / "ImageSets/Main/train.txt").write_text("a\nnowhere\n")
    assert _kinds(read_voc(root, "train")) == ["missing image"]
    with pytest.raises(ToolError, match="cannot read the split"):
        read_voc(root, "test")


def test_the_check_works_on_every_format(tmp_path: Path) -> None:
    for root in (_yolo(tmp_path / "yolo"), _voc(tmp_path / "voc")):
        result = CliRunner().invoke(app, ["data", "check", str(root)])
        assert result.exit_code == 0, result.output
        assert "val: empty class" in result.output


def test_a_header_gives_the_size_that_the_decoder_gives(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.bmp"):
        _image(tmp_path / name, (33, 57))
        assert image_size(tmp_path / name) == (33, 57)
    plain = (tmp_path / "a.jpg").read_bytes()
    turn = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    (tmp_path / "turned.jpg").write_bytes(
        plain[:2] + b"\xff\xe1" + (len(turn) + 2).to_bytes(2, "big") + turn + plain[2:]
    )
    assert read_image(tmp_path / "turned.jpg", 1).shape[:2] == (57, 33)
    assert image_size(tmp_path / "turned.jpg") == (57, 33)


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_damaged_bytes_end_in_findings_or_a_clear_error(tmp_path: Path, kind: str) -> None:
    root = {"yolo": _yolo, "voc": _voc}[kind](tmp_path)
    names = {
        "yolo": ["data.yaml", "labels/train/a.txt", "images/train/a.jpg", "images/train/b.png"],
        "voc": ["Annotations/a.xml", "Annotations/c.xml", "ImageSets/Main/train.txt", "JPEGImages/b.jpg"],
    }
    rng, survived = random.Random(0), 0
    for _ in range(300):
        path = root / rng.choice(names[kind])
        whole = path.read_bytes()
        damaged = bytearray(whole[: rng.choice((len(whole), rng.randrange(1, len(whole))))])
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), rng.choice(b"0\n <&/.:-[{\0")))
        path.write_bytes(damaged)
        with contextlib.suppress(ToolError):
            for data in open_data(DataSettings(root=str(root), format=kind)):
                check(data)
            survived += 1
        path.write_bytes(whole)
    assert 100 < survived < 300
