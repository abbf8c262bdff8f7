"""The embedded sample sets: real handwritten digits (scikit-learn's) pasted into textured scenes, in COCO format; and
one digit a picture, in a folder for each class.

It is made in seconds, needs no download, and is hard enough to be useful: digits overlap, shrink to a fifth of the
picture and fade into their surroundings. Train and val share no digit image.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.files import write_text

SAMPLE = "sample"
"""`data.root` that stands for the embedded sets."""

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MARKER = "complete"
_VERSION = 2  # of the scenes: a folder made by another version is not taken for this one


def sample_folder(n_train: int, n_val: int, size: int, seed: int = 0, kind: str = "sample") -> Path:
    """Where the sample set of these settings is kept: the user's cache folder (XDG_CACHE_HOME)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lowwatt" / f"{kind}-v{_VERSION}-{n_train}-{n_val}-{size}-{seed}"


def make_sample(folder: str | Path, n_train: int, n_val: int, size: int, seed: int = 0) -> Path:
    """Make the sample set in `folder` unless it is there: images/*.png, train.json, val.json; returns the folder.

    The same arguments give the same bytes. The folder appears whole: it is made beside and renamed, so that two
    processes may start at once.
    """
    return _made(Path(folder), lambda work: _fill(work, n_train, n_val, size, seed))


def make_class_sample(folder: str | Path, n_train: int, n_val: int, size: int, seed: int = 0) -> Path:
    """Likewise with one digit a picture: {train,val}/DIGIT/*.png, `n_train` and `n_val` pictures in all."""
    return _made(Path(folder), lambda work: _fill_classes(work, n_train, n_val, size, seed))


def _made(target: Path, fill: Callable[[Path], None]) -> Path:
    if (target / _MARKER).is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".sample-"))
    try:
        fill(work)
        _publish(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _publish(work: Path, target: Path) -> None:
    try:
        work.chmod(0o755)
        work.rename(target)
    except OSError:
        if (target / _MARKER).is_file():
            return  # another process was quicker; its files are the same
        hint = "name a new folder"
        raise ToolError("the folder is not empty and holds no sample set", where=str(target), hint=hint) from None


def _fill(folder: Path, n_train: int, n_val: int, size: int, seed: int) -> None:
    (folder / "images").mkdir()
    pools = _digit_pools(seed)
    for split, count, first in (("train", n_train, 1), ("val", n_val, n_train + 1)):
        rng = np.random.default_rng((seed, first))
        _write_split(folder, split, count, first, size, pools[split], rng)
    write_text(folder / _MARKER, "made by lowwatt\n")


def _fill_classes(folder: Path, n_train: int, n_val: int, size: int, seed: int) -> None:
    import cv2

    pools = _digit_pools(seed)
    for first, (split, count) in enumerate((("train", n_train), ("val", n_val))):
        rng = np.random.default_rng((seed, first))
        for label in range(len(NAMES)):
            (folder / split / str(label)).mkdir(parents=True)
        for number in range(count):
            pick = int(rng.integers(len(pools[split][1])))
            scene = draw_digit(pools[split][0][pick], size, rng)
            cv2.imwrite(str(folder / split / str(pools[split][1][pick]) / f"{number:06d}.png"), scene)
    write_text(folder / _MARKER, "made by lowwatt\n")


def draw_digit(digit: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One gray scene (size, size) uint8 with a digit (8, 8), values 0…1, somewhere in it."""
    scene = _background(size, rng)
    mask = _shape(digit, int(size * rng.uniform(0.5, 0.9)), rng)
    y, x = (int(rng.integers(0, size - extent + 1)) for extent in mask.shape)
    scene[y : y + mask.shape[0], x : x + mask.shape[1]] += rng.uniform(60, 130) * mask
    return _noisy(scene, rng)


def _digit_pools(seed: int) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Digit images (N, 8, 8), values 0…1, and their classes; three quarters for train, the others for val."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    cut = len(order) * 3 // 4
    images = (digits.images / 16.0).astype(np.float32)
    return {
        "train": (images[order[:cut]], digits.target[order[:cut]]),
        "val": (images[order[cut:]], digits.target[order[cut:]]),
    }


def _write_split(
    folder: Path,
    split: str,
    count: int,
    first: int,
    size: int,
    pool: tuple[NDArray[Any], NDArray[Any]],
    rng: np.random.Generator,
) -> None:
    import cv2

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(first, first + count):
        scene, boxes = draw_scene(pool, size, rng)
        name = f"{image_id:06d}.png"
        cv2.imwrite(str(folder / "images" / name), scene)
        images.append({"id": image_id, "file_name": name, "width": size, "height": size})
        annotations += [_annotation(len(annotations) + i + 1, image_id, box) for i, box in enumerate(boxes)]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(folder / f"{split}.json", json.dumps(content))


def _annotation(identity: int, image_id: int, box: tuple[int, int, int, int, int]) -> dict[str, Any]:
    label, x, y, width, height = box
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": label + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def draw_scene(
    pool: tuple[NDArray[Any], NDArray[Any]], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int, int]]]:
    """One gray scene (size, size) uint8 and its boxes (label, x, y, width, height) in pixels."""
    scene = _background(size, rng)
    boxes: list[tuple[int, int, int, int, int]] = []
    wanted = 0 if rng.random() < 0.05 else int(rng.integers(2, 10))
    for _ in range(wanted):
        pick = int(rng.integers(len(pool[1])))
        box = _paste(scene, pool[0][pick], boxes, rng)
        if box is not None:
            boxes.append((int(pool[1][pick]), *box))
    return _noisy(scene, rng), boxes


def _noisy(scene: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    noisy = scene + rng.normal(0, rng.uniform(1, 4), scene.shape)
    pixels: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return pixels


def _background(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Texture of three octaves of smooth noise around a random gray."""
    import cv2

    scene = np.full((size, size), rng.uniform(30, 120), np.float32)
    for cells, strength in ((3, 30.0), (9, 18.0), (27, 9.0)):
        noise = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        scene += strength * rng.uniform(0.2, 1) * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return scene


def _paste(
    scene: NDArray[np.float32],
    digit: NDArray[np.float32],
    taken: list[tuple[int, int, int, int, int]],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """Blend a digit into the scene; its tight box (x, y, w, h), or None where it would hide an earlier digit."""
    size = len(scene)
    mask = _shape(digit, int(size * np.exp(rng.uniform(np.log(0.22), np.log(0.5)))), rng)
    height, width = mask.shape
    x, y = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
    if any(_overlap((x, y, width, height), box[1:]) > 0.25 for box in taken):
        return None
    place = scene[y : y + height, x : x + width]
    place += rng.uniform(60, 130) * mask
    return x, y, width, height


def _shape(digit: NDArray[np.float32], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A digit `side` pixels high, margins included, a little narrower or wider; cut to what can be seen of it."""
    import cv2

    stretch = rng.uniform(0.75, 1.1)
    mask = cv2.resize(np.pad(digit, 1), (max(8, int(side * stretch)), side), interpolation=cv2.INTER_CUBIC)
    mask = np.clip(mask, 0, 1)
    rows, columns = np.flatnonzero(mask.max(1) > 0.3), np.flatnonzero(mask.max(0) > 0.3)
    shape: NDArray[np.float32] = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return shape


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Shared area over the smaller box's area; boxes are (x, y, w, h)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])
