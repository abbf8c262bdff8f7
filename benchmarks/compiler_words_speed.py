"""Seconds to execute every instruction word of one 320 x 320 gray image of YOLOX-FPGA (width .375), decoding included.

python benchmarks/compiler_words_speed.py
"""

from __future__ import annotations

import sys
import time

import numpy as np
from road_core_speed import quantized_yolox
from verdict import conclude

from lowwatt.compiler import compile
from lowwatt.ir import interpreter
from lowwatt.sim.machine import run_words

BAR = 3.0
RUNS = 3


def main() -> int:
    graph = quantized_yolox()
    program = compile(graph, "ultra96v2-lpcv")
    (segment,) = program.segments
    image = {"image": np.random.default_rng(1).integers(0, 128, (1, 320, 320, 1)).astype(np.int8)}
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        found = run_words(segment, program.target, image)
        times.append(time.perf_counter() - start)
    differ = sum(int((found[name] != value).sum()) for name, value in interpreter.run(graph, image).items())
    print(f"{len(segment.instructions)} instructions, {differ} elements differ from the integer reference")
    holds = min(times) <= BAR and differ == 0
    return conclude("words of one 320 image", f"{min(times):.2f} s", f"{BAR:.0f} s", holds)


if __name__ == "__main__":
    sys.exit(main())
