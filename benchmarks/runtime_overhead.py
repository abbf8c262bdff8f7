"""Processor time that the pipeline itself costs a frame: four empty stages, and what the threads' waking adds.

The bar is for empty stages that never wait. Paced, the third stage sleeps 5 ms, so that every frame wakes every thread;
the processor time of the sleep itself is measured in turn and taken off.

    python benchmarks/runtime_overhead.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from verdict import conclude

from lowwatt.runtime.pipeline import Slot, Stage, run_stages, slots_for

BAR_US, ROUNDS = 60.0, 7
NAMES = ("read", "preprocess", "infer", "postprocess")


def nothing(slot: Slot | None) -> None:
    """An empty stage."""


def pause(slot: Slot | None) -> None:
    time.sleep(0.005)


def processor_us(count: int, work: Callable[[], object]) -> float:
    """Microseconds of processor time, of all threads, for each of `count` frames."""
    start = time.process_time()
    work()
    return 1e6 * (time.process_time() - start) / count


def through(infer: Callable[[Slot | None], None], count: int) -> None:
    stages = [Stage(name, [infer if name == "infer" else nothing]) for name in NAMES]
    slots = [Slot() for _ in range(slots_for(stages))]
    numbers = [slot.number for slot in run_stages((item for item in range(count)), stages, slots)]
    assert numbers == list(range(count))


def paced(count: int = 200) -> float:
    asleep = processor_us(count, lambda: [pause(None) for _ in range(count)])
    return processor_us(count, lambda: through(pause, count)) - asleep


def main() -> int:
    empty = [processor_us(20_000, lambda: through(nothing, 20_000)) for _ in range(ROUNDS)]
    waking = [paced() for _ in range(ROUNDS)]
    print("empty stages: " + ", ".join(f"{us:.1f}" for us in empty) + " us a frame")
    print("paced by 5 ms: " + ", ".join(f"{us:.1f}" for us in waking) + " us a frame")
    figure = statistics.median(empty)
    beside = f"{figure:.1f} us a frame ({statistics.median(waking):.0f} where every frame wakes every thread)"
    return conclude("processor time of the pipeline, empty stages", beside, f"{BAR_US:.0f} us", figure <= BAR_US)


if __name__ == "__main__":
    sys.exit(main())
