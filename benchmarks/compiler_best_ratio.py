"""DPU time of the schedule `best` over that of `vendor`, for YOLOX-FPGA and, with --all, every network of the zoo.

python benchmarks/compiler_best_ratio.py [--all]
"""

from __future__ import annotations

import sys
from pathlib import Path

from zoo_networks import NETWORKS

from lowwatt.compiler import compile
from lowwatt.ir.graph import Graph

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from yolox_graph import yolox_graph

BAR, NO_WORSE = 0.90, 1.0
BOARDS = ("kv260", "ultra96v1", "ultra96v2-lpcv")


def ratio(name: str, graph: Graph, board: str) -> float:
    """best over vendor, printed."""
    vendor, best = (compile(graph, board, schedule).dpu_ms for schedule in ("vendor", "best"))
    print(f"{name:22} {board:15} vendor {vendor:8.3f} ms, best {best:8.3f} ms, ratio {best / vendor:.3f}", flush=True)
    return best / vendor


def main() -> int:
    figure = ratio("yolox-fpga .375 320", yolox_graph(0.375, 320), "ultra96v2-lpcv")
    others = [ratio(f"yolox-fpga .375 {side}", yolox_graph(0.375, side), "ultra96v2-lpcv") for side in (288, 352, 416)]
    if "--all" in sys.argv:
        others += [ratio(name, make(), board) for name, make in NETWORKS.items() for board in BOARDS]
    worst = max(others)
    holds = figure <= BAR and worst <= NO_WORSE
    bar = f"{BAR:.2f} (any other network {NO_WORSE:.2f})"
    return conclude("best / vendor, YOLOX-FPGA 320 gray", f"{figure:.3f} (worst other {worst:.3f})", bar, holds)


if __name__ == "__main__":
    sys.exit(main())
