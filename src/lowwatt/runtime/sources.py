"""Where images come from: files, folders, patterns, videos, cameras, network streams, arrays."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

Image = str | Path | NDArray[np.uint8]
Source = Image | int | Iterable[Image]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a source.

    `number` counts from 0; a gap is what a camera's slow reader missed. `image` is a path, pixels, or why there are
    none; `seconds` the time that the video's decoder took; `picture` where the picture with boxes is to go.
    """

    number: int
    name: str
    image: Image | ToolError
    seconds: float = 0.0
    picture: Path | None = None

    def __str__(self) -> str:
        return self.name

    def pixels(self, channels: int) -> NDArray[np.uint8]:
        """uint8 (H, W) or (H, W, C); a file is decoded to `channels`. ToolError for what is no image."""
        if isinstance(self.image, ToolError):
            raise self.image
        return pixels_of(self.image, channels)


def frames_of(source: Source) -> Generator[Frame, None, None]:
    """Frames of a source, in order (folders and patterns: by name).

    `source` is a path of an image or a video; a folder or a pattern (* or ?) of them; a camera's number (an int, or its
    digits); a network stream (rtsp://…); one array; or an iterable of any of these. Files give every frame; cameras and
    network streams give the newest. ToolError for a folder or pattern without images, and where a camera fails; a file
    that is missing or damaged is a frame whose `pixels` raise.

    >>> [str(frame) for frame in frames_of(["a.jpg", np.zeros((4, 4), np.uint8)])]
    ['a.jpg', 'frame 1']
    """
    number = 0
    for image in images_of(source):
        if is_live(image):
            yield from _live_frames(str(image))
        elif is_video(image):
            for frame in _video_frames(str(image), number):
                number = frame.number + 1
                yield frame
        else:
            yield Frame(number, name_of(image, number), image)
            number += 1


def images_of(source: Source) -> Iterator[Image]:
    """A source with its folders and patterns taken apart: arrays, and paths that are not looked into.

    >>> list(images_of(["a.jpg", "clip.mp4", 0]))
    ['a.jpg', 'clip.mp4', '0']
    """
    if isinstance(source, np.ndarray):
        yield source
    elif isinstance(source, int):
        yield str(source)
    elif isinstance(source, (str, Path)):
        yield from _from_path(source)
    else:
        for item in source:
            yield from images_of(item)


def name_of(image: Image, number: int) -> str:
    """What a result calls its image: the path, or the frame's number."""
    return f"frame {number}" if isinstance(image, np.ndarray) else str(image)


def length_of(source: Source) -> int | None:
    """How many frames a source has; None where that is not known before the end."""
    if not isinstance(source, (str, Path, int, np.ndarray, Sized)):
        return None
    images = list(images_of(source))
    return None if any(is_live(image) or is_video(image) for image in images) else len(images)


def is_live(source: Source) -> bool:
    """Whether a source is, or a list has, a camera's number or a network stream."""
    if isinstance(source, (list, tuple)):
        return any(is_live(item) for item in source)
    if isinstance(source, str):
        return "://" in source or (source.isdecimal() and not Path(source).exists())
    return isinstance(source, int)


def is_video(image: Image) -> bool:
    """Whether a path has a video's suffix."""
    return not isinstance(image, np.ndarray) and Path(image).suffix.lower() in VIDEO_SUFFIXES


def pixels_of(image: Image, channels: int) -> NDArray[np.uint8]:
    """Pixels of an image, uint8 (H, W) or (H, W, C); a file is decoded to `channels`. ToolError for what is none."""
    if not isinstance(image, np.ndarray):
        return read_image(image, channels)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ToolError(
            "this is no image",
            why=f"it is {image.dtype} of shape {image.shape}; uint8 (H, W), (H, W, 1) or (H, W, 3) is expected",
        )
    if not image.size:
        raise ToolError("the image is empty", why=f"its shape is {image.shape}")
    return image


# -- folders and patterns --------------------------------------------------------------------------------------


def _from_path(source: str | Path) -> Iterator[Image]:
    if isinstance(source, str) and is_live(source):
        yield source
        return
    path = Path(source)
    if path.is_dir():
        known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        yield from _demand(sorted(p for p in path.iterdir() if p.suffix.lower() in known), source)
    elif any(sign in str(source) for sign in "*?") and not path.exists():
        base = Path(path.anchor)
        yield from _demand(sorted(base.glob(str(path.relative_to(path.anchor)))), source)
    else:
        yield source


def _demand(found: list[Path], source: str | Path) -> list[Path]:
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise ToolError("no images here", where=str(source), hint=f"known suffixes: {known}")
    return found


# -- videos and cameras ----------------------------------------------------------------------------------------


def _open(source: str | int) -> Any:
    """An opened capture; ToolError where there is none."""
    import cv2

    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise ToolError("cannot open the video", where=str(source), why="no such file or camera, or an unknown format")
    return capture


def _video_frames(path: str, first: int) -> Iterator[Frame]:
    """Every frame of a file, one after the other; a file that cannot be opened is one frame that says so."""
    try:
        capture = _open(path)
    except ToolError as error:
        yield Frame(first, path, error)
        return
    try:
        for count in itertools.count():
            start = time.perf_counter()
            good, pixels = capture.read()
            if not good:
                return
            yield Frame(first + count, f"{path} frame {count}", pixels, time.perf_counter() - start)
    finally:
        capture.release()


def _live_frames(source: str) -> Iterator[Frame]:
    """The newest frame of a camera or a network stream, again and again, until it ends; that it ends is an error."""
    newest = _Newest(_open(int(source) if source.isdecimal() else source), source)
    newest.start()
    try:
        while (frame := newest.take()) is not None:
            yield frame
    finally:
        newest.stop()
    raise ToolError("the camera gives no more images", where=source)


class _Newest(threading.Thread):
    """Takes images as they come and keeps one of them: where nobody was there for the older one, it is gone."""

    def __init__(self, capture: Any, source: str) -> None:
        super().__init__(daemon=True)
        self._capture, self._source = capture, source
        self._kept: Frame | None = None
        self._changed = threading.Condition()
        self._ended = False

    def run(self) -> None:
        for number in itertools.count():
            good, pixels = self._capture.read()
            with self._changed:
                self._ended = self._ended or not good
                if good:
                    self._kept = Frame(number, f"{self._source} frame {number}", pixels)
                self._changed.notify()
            if self._ended:
                break
        self._capture.release()

    def take(self) -> Frame | None:
        """The newest frame that nobody has had; None behind the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._kept is not None or self._ended)
            frame, self._kept = self._kept, None
            return frame

    def stop(self) -> None:
        """End after the image under way."""
        self._ended = True
        self.join()
