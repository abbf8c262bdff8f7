"""Worst error of the modelled latency over seven published rows (docs/training-recipe.md 3); nothing is fitted here.

python benchmarks/road_latency_rows.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from lowwatt.compiler import compile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from lpcv2021 import LATENCY_ROWS
from yolox_graph import yolox_graph

BAR = 2.0


def main() -> int:
    errors = []
    print(f"{'row':24} {'published':>9} {'modelled':>9} {'DPU':>7} {'host':>7} {'error':>8}")
    for row in LATENCY_ROWS:
        program = compile(yolox_graph(row.width, row.side, row.channels, row.spp), "ultra96v2-lpcv")
        error = 100 * (program.latency_ms / row.latency_ms - 1)
        errors.append(abs(error))
        figures = f"{row.latency_ms:9.3f} {program.latency_ms:9.3f} {program.dpu_ms:7.2f} {program.host_ms:7.2f}"
        print(f"{row.name:24} {figures} {error:+7.2f}%")
    print(f"mean error {sum(errors) / len(errors):.2f} %")
    holds = max(errors) <= BAR
    return conclude("worst error over seven published latency rows", f"{max(errors):.2f} %", f"{BAR:.2f} %", holds)


if __name__ == "__main__":
    sys.exit(main())
