"""Time of one frame of YOLOX-FPGA (width .375, 320 x 320, gray) on the compiled core, one thread, beside onnxruntime.

Weights are random: the time of integer convolutions does not depend on them.

    python benchmarks/road_core_speed.py
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import numpy as np

from lowwatt.backends import Backend, open_backend
from lowwatt.backends.kernels import load_core

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from yolox_graph import quantized_yolox_graph

BAR_MS = 60.0
RUNS = 20


def best_ms(backend: Backend, image: np.ndarray) -> float:
    """Least wall time of some runs: other work on the machine can only add to it."""
    name, times = backend.inputs[0], []
    for _ in range(RUNS):
        start = time.perf_counter()
        backend.run({name: image})
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> int:
    graph = quantized_yolox_graph(0.375, 320)
    image = np.random.default_rng(1).integers(0, 128, (1, 320, 320, 1)).astype(np.int8)
    print(f"{platform.machine()}, kernels {', '.join(load_core().kernels())}")
    for optimise in (False, True):
        runtime = open_backend("onnxruntime", graph, optimise=optimise, threads=1)
        print(f"onnxruntime QDQ, optimisation {'on' if optimise else 'off'}: {best_ms(runtime, image):.1f} ms")
    figure = best_ms(open_backend("core", graph), image)
    holds = figure <= BAR_MS
    return conclude(
        "YOLOX-FPGA .375 at 320 on the compiled core, one thread", f"{figure:.1f} ms", f"{BAR_MS:.0f} ms", holds
    )


if __name__ == "__main__":
    sys.exit(main())
