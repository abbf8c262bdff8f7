"""A Python as a board has it: this file, run before anything else, leaves NumPy and OpenCV importable and nothing more.

`python board_only.py [--without=cv2] [--of-paths] MODULE ARGUMENTS…` runs MODULE, like `python -m`; `boxes` in its
place prints the boxes of `PROGRAM IMAGE BACKEND` as json. `--of-paths` finds modules on sys.path alone: an editable
install of the checkout would come first.
"""

from __future__ import annotations

import json
import runpy
import sys
from importlib.abc import MetaPathFinder
from typing import Any

ALLOWED = {"lowwatt", "numpy", "cv2", *sys.stdlib_module_names}


class Blocker(MetaPathFinder):
    """Refuses every package that a board does not have."""

    def __init__(self, allowed: set[str]) -> None:
        self._allowed = allowed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        first = name.partition(".")[0]
        # NumPy and OpenCV ask for the cython and gui extras that a wheel may have; their own privates are theirs.
        if first not in self._allowed and not first.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r} (a board has none)", name=name)


def boxes(program: str, image: str, backend: str) -> None:
    from lowwatt.compiler.program import Program
    from lowwatt.runtime import Engine

    found = Engine(Program.load(program), backend)(image).detections
    print(json.dumps([found.xyxy.tolist(), found.score.tolist(), found.label.tolist()]))


def main(arguments: list[str]) -> None:
    missing = {word.removeprefix("--without=") for word in arguments if word.startswith("--without=")}
    module, *rest = [word for word in arguments if not word.startswith("--without=") and word != "--of-paths"]
    if "--of-paths" in arguments:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
    sys.meta_path.insert(0, Blocker(ALLOWED - missing))
    if module == "boxes":
        boxes(*rest)
        return
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, which a board has not
    main(sys.argv[1:])
