"""CPU seconds of reconstruction against MQBench's: same networks, iterations, batch, one thread.

    OMP_NUM_THREADS=1 python benchmarks/quant_reconstruction_time.py [--weights FOLDER] [--peer FOLDER]

With a peer's folder (quant_digits_accuracy.py says what is in it) both run in turn on this machine; without it
MQBench's seconds are the recorded ones, which only the machine that made them can be compared with.
"""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

from quant_digits import METHODS, NETS, arguments, calibrated, peer_rows, reconstructed, task
from verdict import conclude

BAR = 0.5
SETTING, SEED = "w2a4", 0

PEER = f"""
import sys, torch, run_mqbench
torch.set_num_threads(1); run_mqbench.disable_logging()
net, method = sys.argv[1:]
row = run_mqbench.measure(net, {SEED}, run_mqbench.make_data({SEED}), "{SETTING}", method)
print(row["reconstruct_cpu"])
"""


def peer_seconds(peer: Path | None, net: str, method: str) -> float:
    if peer is None:
        rows = {(row["net"], row["seed"], row["setting"], row["algorithm"]): row for row in peer_rows(None)}
        return float(rows[net, SEED, SETTING, method]["reconstruct_cpu"])
    command = [peer / "venv/bin/python", "-c", PEER, net, method]
    done = subprocess.run(command, cwd=peer, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> int:
    weights, folder = arguments(__doc__)
    worst = 0.0
    for net, method in product(NETS, METHODS):
        source = task(net, SEED, weights)
        _, seconds = reconstructed(net, source, calibrated(source, SETTING), method, SEED)
        peer = peer_seconds(folder, net, method)
        worst = max(worst, seconds / peer)
        print(f"{net} {method}: {seconds:.1f} s, MQBench {peer:.1f} s, {seconds / peer:.2f} of it", flush=True)
    return conclude("largest share of MQBench's time", f"{worst:.2f}", f"<= {BAR}", worst <= BAR)


if __name__ == "__main__":
    raise SystemExit(main())
