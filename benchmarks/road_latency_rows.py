"""Worst error of the modelled latency over the seven published rows (facts: lpcv2021.md 3); nothing is fitted here.

python benchmarks/road_latency_rows.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from yolox_graph import yolox_graph

from lowwatt.compiler import compile

BAR = 2.0
# name, width, side, channels, SPP, published latency ms
ROWS = [
    ("w.375 416 RGB", 0.375, 416, 3, True, 38.906),
    ("w.3125 416 RGB, no SPP", 0.3125, 416, 3, False, 32.232),
    ("w.25 416 RGB", 0.25, 416, 3, True, 27.575),
    ("w.375 288 gray", 0.375, 288, 1, True, 21.817),
    ("w.375 320 gray", 0.375, 320, 1, True, 24.557),
    ("w.375 352 gray", 0.375, 352, 1, True, 28.835),
    ("w.375 416 gray", 0.375, 416, 1, True, 38.838),
]


def main() -> int:
    errors = []
    print(f"{'row':24} {'published':>9} {'modelled':>9} {'DPU':>7} {'host':>7} {'error':>8}")
    for name, width, side, channels, spp, published in ROWS:
        program = compile(yolox_graph(width, side, channels, spp), "ultra96v2-lpcv")
        error = 100 * (program.latency_ms / published - 1)
        errors.append(abs(error))
        figures = f"{published:9.3f} {program.latency_ms:9.3f} {program.dpu_ms:7.2f} {program.host_ms:7.2f}"
        print(f"{name:24} {figures} {error:+7.2f}%")
    print(f"mean error {sum(errors) / len(errors):.2f} %")
    holds = max(errors) <= BAR
    verdict = "holds" if holds else "falls short"
    print(f"worst error over seven published latency rows: {max(errors):.2f} %, bar {BAR:.2f} %: {verdict}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
