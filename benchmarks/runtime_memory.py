"""Memory of a stream over 20,000 frames: files, arrays, a video and unreadable files, through the whole engine.

The accelerator answers at once: every buffer goes round as quickly as it can. Resident memory is read at the same
place of every sixth turn (an open video has its own buffers); the first 2,000 frames are for the allocator to settle.

    python benchmarks/runtime_memory.py
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from runtime_accelerator import CONTEST, Accelerator, Runner, detector, images
from verdict import conclude

from lowwatt.runtime import Engine

TURN = 50 + 10 + 20 + 1
BAR, FRAMES, SETTLED = 0.02, 20_000, 2_000


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def mixture(folder: Path) -> Iterator[str | Path | np.ndarray]:
    """An endless turn of files of many sizes, a camera's arrays, a short video and a file that is no image."""
    files, rng = images(2_000), np.random.default_rng(0)
    (folder / "none.jpg").write_bytes(b"no image")
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(20):
        writer.write(rng.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    while True:
        for start in range(0, len(files), 50):
            yield from files[start : start + 50]
            yield from (np.zeros((480, 640, 3), np.uint8) for _ in range(10))
            yield folder / "clip.avi"
            yield folder / "none.jpg"


def main() -> int:
    graph = detector()
    engine = Engine(graph, Runner(graph, Accelerator(0)), **CONTEST)
    measured, failed, done = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        stream = engine.stream(mixture(Path(folder)))
        for done, result in enumerate(stream, 1):
            failed += bool(result.error)
            if done % (6 * TURN) == 40 and done >= SETTLED:
                measured.append(resident())
            if done == FRAMES:
                break
        stream.close()
    print("MB: " + " ".join(f"{size / 1e6:.0f}" for size in measured) + f"; {failed} frames were no image")
    middle = (max(measured) + min(measured)) / 2
    figure = (max(measured) - min(measured)) / 2 / middle
    what = f"memory over {done:,} frames ({middle / 1e6:.0f} MB)"
    return conclude(what, f"+- {100 * figure:.2f} %", f"+- {100 * BAR:.0f} %", figure <= BAR)


if __name__ == "__main__":
    sys.exit(main())
