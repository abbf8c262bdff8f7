"""Result: what the engine gives for one image, and the pictures with boxes that are made of results."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.runtime.sources import Frame
from lowwatt.types import Detections


@dataclass(slots=True)
class Result:
    """Boxes of one image.

    `frame` is its number, `source` its name (a path, or a frame's number), `timing` the seconds of each stage; `error`
    says in words what failed, `file` where the picture with boxes was saved. `image` is the path, or the pixels
    themselves for what is no file: who keeps the results of a long video keeps its images.
    """

    frame: int
    source: str
    detections: Detections
    timing: dict[str, float] = field(default_factory=dict)
    error: str = ""
    image: str | Path | NDArray[np.uint8] | None = field(default=None, repr=False)
    file: str = ""

    def plot(self) -> NDArray[np.uint8]:
        """The image with its boxes, BGR, uint8 (H, W, 3). ToolError where the image cannot be read (any more)."""
        from lowwatt.runtime.draw import draw
        from lowwatt.runtime.sources import pixels_of

        if self.image is None:
            raise ToolError("there is no image to draw on", where=self.source, why=self.error)
        return draw(pixels_of(self.image, 3), self.detections)

    def save(self, path: str | Path) -> Path:
        """Write `plot()` to a file, atomically, or under the image's own name into a folder; gives the file."""
        from lowwatt.runtime.draw import save

        target = Path(path)
        if target.is_dir():
            target = target / f"{file_stem(self.source)}.jpg"
        save(self.plot(), target)
        self.file = str(target)
        return target


def listed(detections: Detections) -> list[dict[str, Any]]:
    """Detections as json-able rows, best first."""
    return [
        {
            "label": detections.names[label] if detections.names else str(label),
            "score": float(score),
            "xyxy": [float(v) for v in box],
        }
        for box, score, label in zip(detections.xyxy, detections.score, detections.label, strict=True)
    ]


def file_stem(source: str) -> str:
    """What a picture of a source is called: photo.png → photo, clip.mp4 frame 3 → clip-000003.

    >>> file_stem("a/photo.one.png"), file_stem("a/clip.mp4 frame 3"), file_stem("frame 12")
    ('photo.one', 'clip-000003', 'frame-000012')
    """
    name, found, number = source.rpartition("frame ")
    if not (found and number.isdecimal()):
        return Path(source).stem
    return f"{Path(name.strip()).stem or 'frame'}-{int(number):06d}"


def named_pictures(frames: Iterable[Frame], folder: str | Path) -> Generator[Frame, None, None]:
    """The frames, each with a file of its own in `folder`: NAME.jpg, or NAME-1.jpg where that is taken.

    ToolError where a picture would come to lie among the user's own.
    """
    whole, taken = Path(folder).resolve(), set[Path]()
    for frame in frames:
        if isinstance(frame.image, (str, Path)) and Path(frame.image).resolve().parent == whole:
            hint = "name another folder"
            raise ToolError("the pictures with boxes would overwrite your own", where=str(folder), hint=hint)
        stem = file_stem(frame.name)
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(1)))
        picture = next(path for name in names if (path := Path(folder) / f"{name}.jpg") not in taken)
        taken.add(picture)
        yield replace(frame, picture=picture)
