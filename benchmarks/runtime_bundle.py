"""The board's bundle in a clean environment of Python 3.10, with NumPy and OpenCV and nothing else.

Makes the bundle of the packaged detector, a new environment with NumPy and OpenCV (from pip), installs the bundle's
wheel there without the net, and runs what its README says: `lowwatt-board check`, then `detect` on pictures. Boxes must
be those of the whole package on the compiled core, to the last bit.

    python benchmarks/runtime_bundle.py [--python /usr/bin/python3.10] [--images FOLDER] [--count 60]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from verdict import conclude

from lowwatt.compiler import Program, compile
from lowwatt.data.sample import make_sample
from lowwatt.ir import store
from lowwatt.runtime import Engine
from lowwatt.runtime.results import listed
from lowwatt.runtime.sources import images_of
from lowwatt.verbs.bundle import Bundle, bundle_file
from lowwatt.verbs.detect import packaged_model

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("LOWWATT_SHARED", ROOT.parent / "shared"))
TARGET, CONF = "ultra96v2-lpcv", 0.05
WHAT, BAR = "bundle in a clean Python 3.10", "0 of each, no package beside numpy and opencv"
TOOLS = {"pip", "setuptools", "wheel"}


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command prints on stdout; its stderr goes through."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, check=True, stdout=subprocess.PIPE, text=True, env=clean
    ).stdout


def clean_environment(python: str, folder: Path) -> Path:
    """The `bin` of a new environment with NumPy and OpenCV."""
    run(python, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", "numpy", "opencv-python-headless")
    return folder / "bin"


def unpacked_bundle(folder: Path) -> Path:
    """The packaged detector's bundle, unpacked, with the program beside it."""
    program = folder / "person.lwp"
    compile(store.load(packaged_model()), TARGET).save(program)
    made = bundle_file(Bundle(program), folder / "board.tar.gz")
    print(f"bundle: {made['bytes'] / 1e6:.1f} MB, {len(made['members'])} files")
    with tarfile.open(folder / "board.tar.gz") as archive:
        archive.extractall(folder)
    return folder / made["folder"]


def pictures(given: Path | None, count: int, folder: Path) -> list[Path]:
    """Pictures of `given`, else of coco_mini, else of the embedded sample set."""
    source = given or SHARED / "data" / "coco_mini" / "images"
    if not source.is_dir():
        source = make_sample(folder / "sample", 1, count, 320) / "images"
    return [Path(str(path)) for path in images_of(source)][:count]


def on_the_board(tools: Path, unpacked: Path, images: list[Path], out: Path) -> list[dict[str, Any]]:
    """Rows of `lowwatt-board detect` in the clean environment."""
    print(run(tools / "lowwatt-board", "check", cwd=unpacked), end="")
    run(tools / "lowwatt-board", "detect", *images, "--conf", str(CONF), "--out", out, cwd=unpacked)
    rows: list[dict[str, Any]] = json.loads((out / "detections.json").read_text())
    return rows


def differences(rows: list[dict[str, Any]], program: Path, images: list[Path]) -> tuple[int, int]:
    """Boxes that the whole package finds, and those of them that the rows do not have at the same place."""
    results = list(Engine(Program.load(program), "core", conf=CONF).stream(images))
    boxes = differ = 0
    for row, result in zip(rows, results, strict=True):
        wanted, found = listed(result.detections), row["detections"]
        boxes += len(wanted)
        differ += abs(len(wanted) - len(found)) + sum(a != b for a, b in zip(wanted, found, strict=False))
    return boxes, differ


def measure(python: str, given: Path | None, count: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpacked, tools = unpacked_bundle(folder), clean_environment(python, folder / "clean")
        (wheel,) = unpacked.glob("*.whl")
        run(tools / "pip", "install", "--quiet", "--no-index", f"./{wheel.name}", cwd=unpacked)
        installed = {one["name"]: one["version"] for one in json.loads(run(tools / "pip", "list", "--format", "json"))}
        print(", ".join(f"{name} {version}" for name, version in installed.items()))
        more = installed.keys() - TOOLS - {"numpy", "opencv-python-headless", "lowwatt"}
        images = pictures(given, count, folder)
        rows = on_the_board(tools, unpacked, images, folder / "boxes")
        boxes, differ = differences(rows, folder / "person.lwp", images)
        version = run(tools / "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    figure = (
        f"{differ} of {boxes} boxes on {len(images)} images differ, golden output equal, {len(more)} other packages"
    )
    return conclude(WHAT, figure, BAR, version == "3.10" and boxes > 0 and not differ and not more)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=shutil.which("python3.10"), help="Python 3.10; default: the one on PATH")
    parser.add_argument("--images", type=Path, help="folder of pictures; default: coco_mini, else the sample set")
    parser.add_argument("--count", type=int, default=60)
    given = parser.parse_args()
    if given.python is None:
        return conclude(WHAT, "there is no python3.10 on PATH (--python)", BAR, False)
    return measure(given.python, given.images, given.count)


if __name__ == "__main__":
    sys.exit(main())
