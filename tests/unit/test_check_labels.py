"""data check on folders of classes and of masks: what is broken, missing, or scored though it was learnt by heart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.verbs.data import check_folder


def picture(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def found(folder: Path) -> set[tuple[str, str, str, str]]:
    return {(row["file"], row["level"], row["kind"], row["where"]) for row in check_folder(folder, [], None)}


def classes(root: Path) -> None:
    for split, first in (("train", 0), ("val", 10)):
        for number, name in enumerate(("cat", "dog")):
            picture(root / split / name / "a.png", first + number)


def masks(root: Path) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        picture(root / split / "images" / "a.png", seed)
        (root / split / "masks").mkdir(parents=True)
        cv2.imwrite(str(root / split / "masks" / "a.png"), np.zeros((8, 8), np.uint8))


def test_sound_folders(tmp_path: Path) -> None:
    classes(tmp_path / "classes")
    masks(tmp_path / "masks")
    assert found(tmp_path / "classes") == found(tmp_path / "masks") == set()


def test_classes(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"no image")
    (tmp_path / "val" / "dog" / "copy.png").write_bytes((tmp_path / "train" / "cat" / "a.png").read_bytes())
    picture(tmp_path / "val" / "owl" / "a.png", 5)
    picture(tmp_path / "train" / "yak" / "a.png", 6)
    assert found(tmp_path) == {
        ("train", "error", "broken image", "broken.png"),
        ("val", "error", "image in both splits", "copy.png"),
        ("val", "error", "unlearnt class", "owl"),
        ("val", "warning", "empty class", "yak"),
    }


def test_a_list_of_labels(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", 0)
    (tmp_path / "labels.txt").write_text("a.png 0\nb.png 2\n")
    assert found(tmp_path) == {(".", "error", "missing image", "b.png"), (".", "warning", "empty class", "1")}


def test_masks(tmp_path: Path) -> None:
    masks(tmp_path)
    train = tmp_path / "train"
    for number, name in enumerate(("none", "small", "void", "rgb"), 2):
        picture(train / "images" / f"{name}.png", number)
    cv2.imwrite(str(train / "masks" / "small.png"), np.zeros((4, 4), np.uint8))
    cv2.imwrite(str(train / "masks" / "void.png"), np.full((8, 8), 255, np.uint8))
    cv2.imwrite(str(train / "masks" / "rgb.png"), np.zeros((8, 8, 3), np.uint8))
    assert found(tmp_path) == {
        ("train", "error", "missing mask", "none.png"),
        ("train", "error", "wrong mask size", "small.png"),
        ("train", "warning", "empty mask", "void.png"),
        ("train", "error", "broken mask", "rgb.png"),
    }


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no annotation file"):
        check_folder(tmp_path, [], None)
    classes(tmp_path)
    with pytest.raises(ToolError, match="a sheet shows boxes"):
        check_folder(tmp_path, [], tmp_path / "sheet.png")
