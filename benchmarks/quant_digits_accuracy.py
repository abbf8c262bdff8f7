"""Accuracy of AdaRound, BRECQ and QDrop on the digits against MQBench's: same insertion, 500 iterations, three seeds.

    python benchmarks/quant_digits_accuracy.py [--weights FOLDER] [--peer FOLDER]

The peer's folder holds MQBench's harness, `run_mqbench.py`, its interpreter in `venv`, and the networks that it ran on
in `weights`; its rows are completed by running it. Without it MQBench's recorded figures are compared with.
"""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import numpy as np
from digits_task import SEEDS
from quant_digits import BITS, METHODS, NETS, accuracy, arguments, calibrated, peer_rows, reconstructed, task
from verdict import conclude

Key = tuple[str, str, str]


def ours(weights: Path) -> dict[Key, list[float]]:
    table: dict[Key, list[float]] = {}
    for seed, net in product(SEEDS, NETS):
        given = task(net, seed, weights)
        for setting in BITS:
            report = calibrated(given, setting)
            for method in METHODS:
                quantized, seconds = reconstructed(net, given, report, method, seed)
                found = accuracy(quantized, given.data)
                table.setdefault((net, setting, method), []).append(found)
                print(f"{net} seed {seed} {setting} {method}: {found:.2f} % ({seconds:.1f} s)", flush=True)
    return table


def theirs(peer: Path | None) -> dict[Key, list[float]]:
    if peer is not None:
        subprocess.run([peer / "venv/bin/python", peer / "run_mqbench.py"], cwd=peer, check=True)
    table: dict[Key, list[float]] = {}
    for row in peer_rows(peer):
        table.setdefault((row["net"], row["setting"], row["algorithm"]), []).append(row["accuracy"])
    return table


def standard_error(a: list[float], b: list[float]) -> float:
    """Of the difference of two means over seeds."""
    return float(np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b)))


def main() -> int:
    weights, folder = arguments(__doc__)
    mine, peer = ours(weights), theirs(folder)
    worst = np.inf
    for key, found in mine.items():
        gap, error = float(np.mean(found) - np.mean(peer[key])), standard_error(found, peer[key])
        worst = min(worst, gap + error)
        print(f"{' '.join(key)}: {np.mean(found):.2f}, MQBench {np.mean(peer[key]):.2f}: {gap:+.2f} ± {error:.2f}")
    mobile = min(np.mean(mine["mb", "w2a4", method]) for method in METHODS)
    figure = f"{worst:+.2f} points, MobileNet W2A4 {mobile:.1f} %"
    what = "least gap to MQBench plus the seeds' standard error"
    return conclude(what, figure, ">= 0 and >= 69 %", worst >= 0 and mobile >= 69)


if __name__ == "__main__":
    raise SystemExit(main())
