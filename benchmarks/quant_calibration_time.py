"""CPU seconds of calibration against MQBench's: same networks, images, batch, method, one thread; each in turn.

    OMP_NUM_THREADS=1 python benchmarks/quant_calibration_time.py --peer FOLDER

quant_digits_accuracy.py says what is in the peer's folder. Both run each combination three times; the least counts.
Ours is the pass over all images and the choice of every format, for activations, weights and biases. The bar is on
ways that choose: least squared error, and the Vitis target's own. Extremes alone are a forward pass on both sides, and
ours fills histograms meanwhile: shown, without a bar.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from quant_digits import NETS, Task, arguments, task
from verdict import conclude

from lowwatt.quant.calibration import calibrate, collect
from lowwatt.quant.plan import make_plan
from lowwatt.quant.ptq import prepared_copy
from lowwatt.quant.scheme import Scheme, load_scheme

BAR = 0.5
ROUNDS, SEED = 3, 0
WAYS = {
    "w4a4 mse": ("w4a4", "mse", load_scheme("academic_affine").with_bits(4, 4), "mse"),
    "w4a4 minmax": ("w4a4", "minmax", load_scheme("academic_affine").with_bits(4, 4), "ema"),
    "vitis": ("vitis", "minmax", load_scheme("vitis"), load_scheme("vitis").calibration),
}
"""Name → MQBench's setting and algorithm, our scheme and method. MQBench's `minmax` averages extremes over batches."""

PEER = f"""
import sys, torch, numpy as np, run_mqbench as r
torch.set_num_threads(1); r.disable_logging()
net, setting, algorithm = sys.argv[1:]
data = r.make_data({SEED})
batches, least = list(r.calibration(data).split(r.BATCH)), 1e9
for _ in range({ROUNDS}):
    model, clock = r.prepare(r.trained(net, {SEED}, r.HERE / "weights", data), setting, algorithm), r.Clock()
    with clock.part("calibrate"):
        r.calibrate(model, batches, setting)
    least = min(least, clock.seconds["calibrate_cpu"])
print(least)
"""


def peer_seconds(peer: Path, net: str, setting: str, algorithm: str) -> float:
    command = [peer / "venv/bin/python", "-c", PEER, net, setting, algorithm]
    done = subprocess.run(command, cwd=peer, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def own_seconds(given: Task, scheme: Scheme, method: str) -> float:
    least = float("inf")
    for _ in range(ROUNDS):
        graph = prepared_copy(given.graph, scheme)
        plan = make_plan(graph, scheme)
        begin = time.process_time()
        calibrate(graph, plan, collect(graph, given.batches), method)
        least = min(least, time.process_time() - begin)
    return least


def main() -> int:
    weights, folder = arguments(__doc__)
    if folder is None:
        print("MQBench's seconds can only be compared on the machine that measures ours: give --peer FOLDER")
        return 2
    worst = 0.0
    for net in NETS:
        source = task(net, SEED, weights)
        for name, (setting, algorithm, scheme, method) in WAYS.items():
            seconds, peer = own_seconds(source, scheme, method), peer_seconds(folder, net, setting, algorithm)
            worst = max(worst, 0.0 if algorithm == "minmax" and setting != "vitis" else seconds / peer)
            print(f"{net} {name}: {seconds:.2f} s, MQBench {peer:.2f} s, {seconds / peer:.2f} of it", flush=True)
    return conclude("largest share of MQBench's calibration time", f"{worst:.2f}", f"<= {BAR}", worst <= BAR)


if __name__ == "__main__":
    sys.exit(main())
