"""Faults put into a stream on purpose: every run ends, says what failed, loses nothing else, and leaves no thread.

Files: damaged ones are one failure each among good ones, odd ones are read. Backends that raise, hang or give too
little end the run behind the good results, with the image's name. A disk that is full loses pictures alone (a limit on
the size of files stands in for it). Ctrl-C comes while each stage is at work, and during `lowwatt detect`.

    python benchmarks/runtime_faults.py
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lowwatt.backends import open_backend
from lowwatt.errors import ToolError
from lowwatt.runtime import Engine
from lowwatt.types import Array

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from fault_images import BAD, SOUND, fault_images
from small_detector import picture, small_detector

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("source", "read", "preprocess", "infer", "postprocess", "save", "caller")
Case = Callable[[Path], None]


# -- files -----------------------------------------------------------------------------------------------------


def one_file(name: str, bad: bool, folder: Path) -> None:
    """Between two good images: all three answered, in order, and only a damaged one failed."""
    paths = fault_images(folder)
    wanted = [paths["good"], paths[name], paths["good"]]
    source = (str(path) for path in wanted) if name != "folder" else folder / "[fg]o*"
    results = list(Engine(small_detector()).stream(source))
    failed = [Path(result.source) for result in results if result.error]
    assert failed == ([paths[name]] if bad else []), failed
    assert all(paths[name].name in result.error for result in results if result.error)
    found = [result for result in results if Path(result.source) == paths["good"]]
    assert found and all(len(result.detections) == 1 for result in found)
    assert len(results) == (3 if name != "folder" else 2)


def strict(folder: Path) -> None:
    """The first damaged file stops the run and is named."""
    paths, good = fault_images(folder), []
    try:
        for result in Engine(small_detector()).stream([paths["good"], paths["empty"], paths["good"]], strict=True):
            good.append(result)
    except ToolError as error:
        assert "empty.jpg" in error.where and len(good) == 1
        return
    raise AssertionError("it went on")


# -- backends --------------------------------------------------------------------------------------------------


class Faulty:
    """A backend that does something else at its 50th image."""

    def __init__(self, fault: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
        self._inner, self._fault, self._runs = open_backend("core", small_detector()), fault, 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, or the fault."""
        self._runs += 1
        found = self._inner.run(inputs)
        return self._fault(found) if self._runs == 50 else found


def raises(found: dict[str, Array]) -> dict[str, Array]:
    raise RuntimeError("DPU timeout")


def hangs(found: dict[str, Array]) -> dict[str, Array]:
    time.sleep(1.3)
    return found


def lacks(found: dict[str, Array]) -> dict[str, Array]:
    return {"cls": found["cls"]}


def cut(found: dict[str, Array]) -> dict[str, Array]:
    return {name: value[:, :1] for name, value in found.items()}


def backend(fault: Callable[[dict[str, Array]], dict[str, Array]], runners: int, folder: Path) -> None:
    """Of 2,000 images, those before the fault are answered, and the error names the one that it met."""
    runs = [Faulty(fault), *(open_backend("core", small_detector()) for _ in range(runners - 1))]
    engine, frames = Engine(small_detector(), runs, timeout=0.5), []
    try:
        for result in engine.stream(picture((1, 1)) for _ in range(2_000)):
            frames.append(result.frame)
    except ToolError as error:
        assert frames == list(range(len(frames))) and len(frames) >= 49
        assert error.where.split(",")[0] == f"frame {len(frames)}", error.where
        assert fault is not hangs or "has not answered" in error.why
        return
    raise AssertionError("nobody was told")


# -- disks and keys --------------------------------------------------------------------------------------------


def full_disk(folder: Path) -> None:
    """Every second picture is larger than files may be."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (900, 900), np.uint8) if k % 2 else picture((1, 1)) for k in range(40)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        results = list(Engine(small_detector()).stream(images, save=folder / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [bool(result.error) for result in results] == [bool(k % 2) for k in range(40)]
    assert all("File too large" in result.error for result in results[1::2])
    assert all(len(result.detections) == 1 for result in results[::2])
    assert len(list((folder / "out").iterdir())) == 20, "no half-written file"


def ctrl_c(stage: str, folder: Path) -> None:
    """The stream is closed: its threads are gone, and the results before are whole."""
    command = [sys.executable, str(ROOT / "tests/interrupted_stream.py"), stage, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "threads 1 results" in out and not list(folder.glob(".*")), out


def ctrl_c_detect(folder: Path) -> None:
    """Every image that the command line told of is there, and it ends with 130 and one word."""
    cv2.imwrite(str(folder / "a.png"), picture((1, 1), size=(960, 1440)))
    command = [sys.executable, "-m", "lowwatt", "detect", *[str(folder / "a.png")] * 3_000, "-o", str(folder / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors.strip() == "interrupted", errors
    told = [line.split(" → ")[1].split(": ")[0] for line in (first + out).splitlines()]
    assert told and all(Path(file).is_file() for file in told) and not list((folder / "out").glob(".*"))


CASES: dict[str, Case] = {
    **{f"file: {name}": partial(one_file, name, name in BAD) for name in (*BAD, *SOUND)},
    "file: strict": strict,
    **{
        f"backend: {fault.__name__}, {runners} of them": partial(backend, fault, runners)
        for fault in (raises, hangs, lacks, cut)
        for runners in (1, 3)
    },
    "disk: full": full_disk,
    **{f"Ctrl-C: {stage}": partial(ctrl_c, stage) for stage in STAGES},
    "Ctrl-C: lowwatt detect": ctrl_c_detect,
}


def outcome(case: Case) -> str:
    """Nothing where it went as it should, else what went wrong."""
    before = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as folder:
        try:
            case(Path(folder))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    left = [thread for thread in set(threading.enumerate()) - before if not thread.join(2) and thread.is_alive()]
    return f"{len(left)} threads are left" if left else ""


def main() -> int:
    wrong = 0
    for name, case in CASES.items():
        start = time.perf_counter()
        found = outcome(case)
        wrong += bool(found)
        print(f"{name:<32} {time.perf_counter() - start:5.2f} s  {found or 'as it should'}", flush=True)
    figure = f"{len(CASES) - wrong} of {len(CASES)}"
    return conclude("faults that end a run as they should", figure, "all", wrong == 0)


if __name__ == "__main__":
    sys.exit(main())
