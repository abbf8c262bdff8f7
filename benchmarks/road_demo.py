"""AP of the integers at the end of the demo's road, and the time it took.

python benchmarks/road_demo.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from verdict import conclude

from lowwatt.cli.console import StageProgress
from lowwatt.recipe import load_recipe
from lowwatt.verbs.produce import Road

ROOT = Path(__file__).resolve().parent.parent
AP, SECONDS = 0.40, 360


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        road = Road(load_recipe(ROOT / "recipes/demo.yaml"), Path(folder), listener=print, progress=StageProgress)
        road.produce()
    seconds = time.monotonic() - began
    ap = road.accuracy["integer"].value
    holds = ap >= AP and seconds <= SECONDS
    return conclude(
        f"AP of the demo's integers after {seconds:.0f} s", f"{ap:.3f}", f"{AP:.2f} within {SECONDS} s", holds
    )


if __name__ == "__main__":
    sys.exit(main())
