"""Decoded images, scaled once: kept in memory, or for all runs in one file that is mapped into memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.ahead import default_workers, in_order
from lowwatt.data.coco import CocoData, CocoImage
from lowwatt.data.layout import Corners, Image, Sample
from lowwatt.files import atomic_path, sweep
from lowwatt.letterbox import letterbox, read_image
from lowwatt.recipe import TrainSettings
from lowwatt.types import Letterbox, Preprocess

_VERSION = b"1"  # of the file's layout and of how images are scaled


Scaled = tuple[Image, tuple[int, int]]
"""A decoded image (H, W, C) uint8, scaled as the letterbox does, and (height, width) of the file's own."""
T = TypeVar("T", bound=Sequence[object])
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Decoded items by index."""

    def __getitem__(self, index: int) -> T_co: ...


def pixel_bytes(item: Sequence[object]) -> int:
    """Memory of the arrays of an item."""
    return sum(part.nbytes for part in item if isinstance(part, np.ndarray))


class Decoded:
    """Images read from their files every time, scaled to fit into `side` pixels; ToolError names a damaged one."""

    def __init__(self, images: Sequence[CocoImage], channels: int, side: int) -> None:
        self.images, self.side, self.channels = images, side, channels
        self._preprocess = Preprocess((side, side), channels)

    def __getitem__(self, index: int) -> Scaled:
        padded, fit = letterbox(read_image(self.images[index].path, self.channels), self._preprocess)
        height, width = fit.resized
        return padded[:height, :width].copy(), fit.source  # a view would keep the padding, too


class InMemory(Generic[T]):
    """What has been read once is kept, up to `limit` bytes of pixels."""

    def __init__(self, source: Source[T], limit: int) -> None:
        self.source, self.limit, self.bytes = source, limit, 0
        self._kept: dict[int, T] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> T:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        read = self.source[index]
        with self._lock:  # another thread may have read the same
            size = pixel_bytes(read)
            if index not in self._kept and self.bytes + size <= self.limit:
                self._kept[index] = read
                self.bytes += size
        return read


class OnDisk:
    """All images of a data set in one file under `folder`, made on first use and made anew where an image has changed.

    The file holds the pixels, the images' own sizes (N, 2) int32, and the stamp by which it is known to be current. It
    appears whole, and processes that want the same wait for the one that makes it. ToolError where there is no space.
    """

    def __init__(self, source: Decoded, folder: Path) -> None:
        paths = "\n".join(str(image.path.absolute()) for image in source.images)
        settings = f"{source.side} {source.channels}\n".encode()
        name = hashlib.sha256(_VERSION + settings + paths.encode()).hexdigest()[:16]
        self.path, self.source, self._stamp = folder / f"{name}.images", source, _stamp(source.images)
        if not self._current():
            with _alone(folder):
                sweep(folder)  # what a killed one left
                if not self._current():
                    self._write()
        self._open()

    def __getitem__(self, index: int) -> Scaled:
        height, width = (int(extent) for extent in self._sizes[index])
        shape = *self._fit(height, width).resized, self.source.channels
        start = self._starts[index]
        return self._pixels[start : self._starts[index + 1]].reshape(shape), (height, width)

    def _fit(self, height: int, width: int) -> Letterbox:
        return Letterbox.fit((height, width), (self.source.side, self.source.side))

    def _current(self) -> bool:
        """Whether the file is there and made of the images as they are now."""
        try:
            with self.path.open("rb") as file:
                file.seek(-len(self._stamp), os.SEEK_END)
                return file.read() == self._stamp
        except OSError:
            return False

    def _write(self) -> None:
        jobs = [(index,) for index in range(len(self.source.images))]
        sizes = []
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            for pixels, size in in_order(self.source.__getitem__, jobs, default_workers()):
                file.write(pixels.tobytes())
                sizes.append(size)
            file.write(np.array(sizes, np.int32).tobytes() + self._stamp)

    def _open(self) -> None:
        count = len(self.source.images)
        content: NDArray[np.uint8] = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        end = len(content) - len(self._stamp)
        self._sizes = np.frombuffer(content[end - 8 * count : end].tobytes(), np.int32).reshape(count, 2)
        shapes = np.array([self._fit(int(h), int(w)).resized for h, w in self._sizes], np.int64)
        self._starts = np.concatenate(([0], np.cumsum(shapes.prod(1) * self.source.channels)))
        self._pixels: Image = content[: self._starts[-1]]


def _stamp(images: Sequence[CocoImage]) -> bytes:
    """Changes with the size and the time of any image."""
    digest = hashlib.sha256(_VERSION)
    for image in images:
        with contextlib.suppress(OSError):  # the reader tells of an absent file, by its name
            state = image.path.stat()
            digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.digest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is here; the hold ends with the process, however it ends."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Where decoded images are kept: in the user's cache folder (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowwatt" / "decoded"


def open_source(data: CocoData, channels: int, side: int, settings: TrainSettings) -> Source[Scaled]:
    """The images of a data set as `train.cache` wants them kept."""
    decoded = Decoded(data.images, channels, side)
    if settings.cache == "disk":
        return OnDisk(decoded, cache_folder())
    return InMemory(decoded, int(settings.cache_gib * 2**30)) if settings.cache == "ram" else decoded


class Samples:
    """Images with their boxes scaled alike. Crowd boxes and boxes without area are left out: they are no targets."""

    def __init__(self, data: CocoData, source: Source[Scaled], side: int) -> None:
        self.data, self.source, self.side = data, source, side
        self._targets: dict[int, tuple[Corners, NDArray[np.int64]]] = {}  # asked for in every mosaic

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        image, size = self.source[index]
        targets = self._targets.get(index)
        if targets is None:
            targets = self._targets[index] = self._scaled(index, size)
        return Sample(image, *targets)

    def _scaled(self, index: int, size: tuple[int, int]) -> tuple[Corners, NDArray[np.int64]]:
        annotated = self.data.boxes[index]
        usable = ~annotated.crowd & (annotated.xywh[:, 2:] > 0).all(1)
        boxes = Letterbox.fit(size, (self.side, self.side)).to_input(annotated.xyxy[usable])
        return boxes, annotated.label[usable]
