"""measure: read a meter while something runs, once an interval, on a thread of its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lowwatt.errors import ToolError
from lowwatt.meters.base import Meter
from lowwatt.meters.recording import Recording

_WANDER = (math.sqrt(5) - 1) / 2
"""Multiples of the golden ratio, without their whole part, fill an interval evenly and never repeat."""
STUCK = 10.0
"""Seconds that the end of a run waits for a read under way; a driver that hangs longer is left behind."""


@contextmanager
def measure(meter: Meter, interval: float | None = None) -> Iterator[Recording]:
    """Record `meter` while the block runs, every `interval` seconds (by default the meter's own).

    One read comes before the block and one behind it; the energy is that between the exact begin and end. Reads that
    fail in between are gaps. The thread has ended when the block is left, however that happens. ToolError where the
    first read fails.

    with measure(open_meter("rapl")) as energy:
        work()
    print(energy.total, "J")
    """
    sampler = _Sampler(meter, meter.interval if interval is None else interval)
    sampler.first()
    recording = sampler.recording
    recording.begin = time.monotonic()
    sampler.start()
    try:
        yield recording
    finally:
        recording.end = time.monotonic()
        sampler.finish()


class _Sampler(threading.Thread):
    """One read in each interval, at a place that wanders through it; what came late is not made up for by more reads.

    At the same place each time, a load that changes in step with the reads (frames do) would be seen in one state only.
    """

    def __init__(self, meter: Meter, interval: float) -> None:
        super().__init__(name=f"meter {meter.name}", daemon=True)
        self._meter, self._interval, self._done = meter, interval, threading.Event()
        self.recording = Recording(meter.name, meter.kind, meter.how, meter.rails, meter.provenance, interval)

    def run(self) -> None:
        begin, count = time.monotonic(), 0
        while not self._done.wait(max(0.0, begin + self._interval * (count + count * _WANDER % 1) - time.monotonic())):
            if count:
                self._sample()
            count = max(count + 1, int((time.monotonic() - begin) / self._interval))

    def first(self) -> None:
        """The read before the run, which has to succeed."""
        self._sample()
        if not self.recording.times:
            raise ToolError("the meter cannot be read", where=self._meter.name, why=self.recording.failures[0][1])

    def finish(self) -> None:
        """The read behind the run."""
        self._done.set()
        self.join(STUCK)
        if self.is_alive():
            self.recording.failures.append((time.monotonic(), f"the meter has not answered for {STUCK:g} s"))
        else:
            self._sample()

    def _sample(self) -> None:
        """One read, at the middle of the time that it took."""
        start = time.monotonic()
        try:
            values = tuple(float(value) for value in self._meter.read())
            if len(values) != len(self._meter.rails) or not all(map(math.isfinite, values)):
                raise ValueError(f"it gave {values}")
        except Exception as error:  # whatever a driver raises: the run goes on, and the gap is told
            self.recording.failures.append((start, _words(error)))
            return
        self.recording.times.append((start + time.monotonic()) / 2)
        self.recording.values.append(values)


def _words(error: Exception) -> str:
    """One line that says what a read raised."""
    text = f"{error.what}: {error.why}" if isinstance(error, ToolError) and error.why else str(error)
    return " ".join(text.split()) or type(error).__name__
