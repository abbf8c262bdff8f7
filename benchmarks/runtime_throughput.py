"""Throughput of the pipeline around an accelerator of 5 and of 17 ms, beside that of the accelerator alone.

Real work around a simulated accelerator that does not use the processor: JPEGs of coco_mini are read and decoded,
scaled and padded to 320 pixels, and 2,100 anchors of 80 classes become boxes at the contest's settings. In turn:

* alone: a plain loop over one runner, whose sleeps last a little longer than asked for;
* one runner: the pipeline around it, as a share of that loop;
* two runners of the one accelerator, as the contest's winner had two lanes: its queue holds the next image while the
  host is told of the last one. As a share of 1 / inference time itself.

The bar is for the better of the two; others on the machine take from both.

    python benchmarks/runtime_throughput.py
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np
from runtime_accelerator import CONTEST, SIZE, Accelerator, Runner, detector, images
from verdict import conclude

from lowwatt.runtime import Engine

BAR, ROUNDS = 0.97, 12
SECONDS = {0.005: 200, 0.017: 60}
"""Time of an inference → images of a round."""


def alone(engine: Engine, count: int) -> float:
    """Seconds of the inferences by themselves."""
    runner, values = engine.backends[0], {"image": np.zeros((1, SIZE, SIZE, 1), np.int8)}
    start = time.perf_counter()
    for _ in range(count):
        runner.run(values)
    return time.perf_counter() - start


def streamed(engine: Engine, files: list[str]) -> float:
    """Seconds of the whole stream, with filling and emptying the pipeline."""
    start = time.perf_counter()
    boxes = [len(result.detections) for result in engine.stream(files, strict=True)]
    seconds = time.perf_counter() - start
    assert len(boxes) == len(files) and min(boxes) > 0
    return seconds


def shares(seconds: float, count: int) -> tuple[float, float]:
    """Throughput with one runner and with two, as shares of what the accelerator can do; medians of the rounds."""
    graph, accelerator, files = detector(), Accelerator(seconds), images(count)
    runners = [Runner(graph, accelerator) for _ in range(2)]
    single, double = Engine(graph, runners[:1], **CONTEST), Engine(graph, runners, **CONTEST)
    streamed(double, files[:50])
    rounds = [(alone(single, count), streamed(single, files), streamed(double, files)) for _ in range(ROUNDS)]
    rates = [statistics.median(count / one[kind] for one in rounds) for kind in range(3)]
    print(f"{1000 * seconds:.0f} ms, images a second: 1/time {1 / seconds:.1f}, alone {rates[0]:.1f}", end="")
    print(f", one runner {rates[1]:.1f}, two runners {rates[2]:.1f}")
    print("  " + str(single.bench(files[:100], seconds=2)).replace("\n", "\n  "))
    one = [loop / pipeline for loop, pipeline, _ in rounds]
    two = [count * seconds / pipeline for _, _, pipeline in rounds]
    print("  one runner: " + ", ".join(f"{100 * part:.1f}" for part in one) + " %")
    print("  two runners: " + ", ".join(f"{100 * part:.1f}" for part in two) + " %")
    return statistics.median(one), statistics.median(two)


def main() -> int:
    print(f"{os.cpu_count()} cores; load before the start {os.getloadavg()[0]:.1f}")
    found = {seconds: shares(seconds, count) for seconds, count in SECONDS.items()}
    texts = [
        f"{100 * one:.1f} % and {100 * two:.1f} % at {1000 * seconds:.0f} ms" for seconds, (one, two) in found.items()
    ]
    holds = min(max(pair) for pair in found.values()) >= BAR
    what = "throughput of the pipeline around a simulated accelerator, one runner and two"
    return conclude(what, ", ".join(texts), f"{100 * BAR:.0f} %", holds)


if __name__ == "__main__":
    sys.exit(main())
