"""Energy of a known changing load: the integral of `measure`, and the contest script's mean power x time; and its cost.

A thread writes a load of steps, a sine and bursts into a folder like an Ultra96-V2's /sys, a thousand times a second.
Both methods read it in the same run, 20 times a second; the mean is taken as the published script takes it: a loop of
read and sleep, whose mean is multiplied by the time around it. Truth is the integral of the load's own formula between
the exact begin and end of the run. The load's periods are whole multiples of the interval, as frames' may be: reads at
an even pace see it in few of its states.

    python benchmarks/runtime_energy.py
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from verdict import conclude

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fake_power import Driver, ultra96
from lowwatt.meters import measure, open_meter

BAR, ROUNDS, SECONDS, REST, WATCHED = 0.01, 3, 20.0, 0.5, 10.0
SINE, STEP, BURST = 1.7, 1.1, 0.9
"""Periods, s."""


def watts(t: float) -> float:
    """1 W at rest, then 5 W with a sine of 2 W, 3 W more every other half period, bursts of 4 W a fifth of the time."""
    if t < REST:
        return 1.0
    steps = 3.0 * (t % STEP < STEP / 2) + 4.0 * (t % BURST < BURST / 5)
    return 5.0 + 2.0 * math.sin(2 * math.pi * t / SINE) + steps


def joules(t: float) -> float:
    """Integral of `watts` from REST to t."""

    def on(until: float, period: float, part: float) -> float:
        """Seconds before `until` that lie in the first `part` of a period."""
        return until // period * part + min(until % period, part)

    def whole(until: float) -> float:
        sine = -2.0 * SINE / (2 * math.pi) * math.cos(2 * math.pi * until / SINE)
        return 5.0 * until + sine + 3.0 * on(until, STEP, STEP / 2) + 4.0 * on(until, BURST, BURST / 5)

    return whole(t) - whole(REST)


class MeanRecorder(threading.Thread):
    """PYNQ's DataRecorder as the published script uses it: read, sleep, and in the end the mean."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self._meter, self._done, self.reads = open_meter("pmbus", root=root, rails=["5V"]), False, []

    def run(self) -> None:
        """Until `finish`."""
        while not self._done:
            self.reads.append(self._meter.read()[0])
            time.sleep(0.05)

    def finish(self) -> float:
        """The mean."""
        self._done = True
        self.join()
        return statistics.mean(self.reads)


def compare(root: Path) -> tuple[float, float]:
    """Relative errors of one run: integral, mean x time."""
    meter, mean = open_meter("pmbus", root=root), MeanRecorder(root)
    with Driver(root / "class/hwmon/hwmon2/power1_input", lambda t: 1e6 * watts(t)) as driver:
        time.sleep(REST)
        start = time.monotonic()
        mean.start()
        with measure(meter) as energy:
            time.sleep(SECONDS)
        power = mean.finish()
        seconds = time.monotonic() - start
    truth = joules(energy.end - driver.began) - joules(energy.begin - driver.began)
    return energy.total / truth - 1, power * seconds / truth - 1


def cost(root: Path) -> float:
    """Share of one core that reading all eleven rails takes, beside what waiting takes."""
    meter, used = open_meter("pmbus", root=root), []
    for reading in (False, True):
        start = time.process_time()
        if reading:
            with measure(meter):
                time.sleep(WATCHED)
        else:
            time.sleep(WATCHED)
        used.append((time.process_time() - start) / WATCHED)
    return used[1] - used[0]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = ultra96(Path(folder))
        errors = [compare(root) for _ in range(ROUNDS)]
        share = cost(root)
    for k, (integral, mean) in enumerate(errors):
        print(f"run {k + 1}: integral {100 * integral:+.2f} %, mean x time {100 * mean:+.2f} %")
    worst = max(abs(integral) for integral, _ in errors)
    other = max(abs(mean) for _, mean in errors)
    figure = f"{100 * worst:.2f} % at worst (mean x time {100 * other:.2f} %), {100 * share:.2f} % of a core"
    holds = worst <= BAR and share <= BAR
    return conclude("energy of a known changing load, eleven rails", figure, "1 % and 1 % of a core", holds)


if __name__ == "__main__":
    sys.exit(main())
