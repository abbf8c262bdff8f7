"""Throughput of the pipeline around an accelerator of 5 and of 17 ms, beside that of the accelerator alone.

Real work around a simulated accelerator that does not use the processor: JPEGs of coco_mini are read and decoded,
scaled and padded to 320 pixels, and 2,100 anchors of 80 classes become boxes at the contest's settings. "Alone" is a
plain loop over the same runner, in turn with the pipeline, so that both have the same sleep and the same machine.

    python benchmarks/runtime_throughput.py
"""

from __future__ import annotations

import statistics
import sys
import time

from runtime_accelerator import CONTEST, Accelerator, detector, images
from verdict import conclude

from lowwatt.runtime import Engine

BAR, ROUNDS = 0.97, 12
SECONDS = {0.005: 200, 0.017: 60}
"""Time of an inference → images of a round."""


def alone(accelerator: Accelerator, engine: Engine, count: int) -> float:
    """Seconds of the inferences by themselves."""
    values = {engine.input.name: engine.input.allocate().values}
    start = time.perf_counter()
    for _ in range(count):
        accelerator.run(values)
    return time.perf_counter() - start


def streamed(engine: Engine, files: list[str]) -> float:
    """Seconds of the whole stream, with filling and emptying the pipeline."""
    start = time.perf_counter()
    boxes = [len(result.detections) for result in engine.stream(files, strict=True)]
    seconds = time.perf_counter() - start
    assert len(boxes) == len(files) and min(boxes) > 0
    return seconds


def share(seconds: float, count: int) -> float:
    """Throughput of the pipeline as a share of what the accelerator can do, median of the rounds."""
    graph = detector()
    accelerator = Accelerator(graph, seconds)
    engine = Engine(graph, accelerator, **CONTEST)
    files = images(count)
    streamed(engine, files[:50])
    rounds = [(alone(accelerator, engine, count), streamed(engine, files)) for _ in range(ROUNDS)]
    shares = [one / whole for one, whole in rounds]
    fps = [count / whole for _, whole in rounds]
    print(f"{1000 * seconds:.0f} ms: alone {count / rounds[0][0]:.1f} a second (1/time {1 / seconds:.1f}), pipeline")
    print("  " + ", ".join(f"{rate:.1f} ({100 * part:.1f} %)" for rate, part in zip(fps, shares, strict=True)))
    print("  " + str(engine.bench(files[:100], seconds=2)).replace("\n", "\n  "))
    return statistics.median(shares)


def main() -> int:
    found = {seconds: share(seconds, count) for seconds, count in SECONDS.items()}
    figure = ", ".join(f"{100 * part:.1f} % at {1000 * seconds:.0f} ms" for seconds, part in found.items())
    holds = min(found.values()) >= BAR
    return conclude("throughput of the pipeline around a simulated accelerator", figure, f"{100 * BAR:.0f} %", holds)


if __name__ == "__main__":
    sys.exit(main())
