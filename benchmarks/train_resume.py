"""A run killed with SIGKILL in the middle of an epoch and resumed, against one that nobody touched: the same weights.

    python benchmarks/train_resume.py

In one process and in two (torchrun, gloo), on the CPU in float32; the embedded sample set. The kill comes at a random
step of each run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from verdict import conclude

RECIPE = ["model.width=0.125", "model.size=96", "data.sample_train=160", "data.sample_val=8", "data.sample_size=96"]
RECIPE += ["train.epochs=3", "train.batch=8", "train.plain_epochs=1", "train.optimizer=adamw", "train.eval_every=1"]
RECIPE += [
    "train.device=cpu",
    "train.precision=fp32",
    "train.threads=1",
    "train.save_minutes=0.005",
    "train.workers=1",
    "quant.images=8",
]


def command(out: Path, processes: int, resume: bool = False) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = ["-m", "lowwatt", "train", str(out.parent / "recipe.yaml"), *RECIPE, "--out", str(out)]
    return [sys.executable, *launch, *words, *(["--resume"] if resume else [])]


def killed(out: Path, processes: int, seconds: float) -> str:
    """Start, wait for the first save and `seconds` more, kill all processes; where the run stood."""
    run = subprocess.Popen(command(out, processes), stderr=subprocess.DEVNULL)
    state = out / "train" / "last.ckpt"
    while not state.exists() and run.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    alive = run.poll() is None
    for number in [run.pid, *descendants(run.pid)]:  # torchrun's workers are in sessions of their own
        os.kill(number, signal.SIGKILL)
    run.wait()
    assert alive, "it had ended before the kill"
    import torch

    stood = torch.load(state, weights_only=True)
    return f"epoch {stood['epoch'] + 1}, step {stood['step']}"


def descendants(parent: int) -> list[int]:
    """Processes below one, by /proc."""
    below = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            below += [int(stat.parent.name), *descendants(int(stat.parent.name))]
    return below


def weights(out: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(out / "model.safetensors"))


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    equal = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text("name: resume\n")
        for processes in (1, 2):
            whole, parts = (folder / f"{kind}{processes}" for kind in ("whole", "parts"))
            subprocess.run(command(whole, processes), check=True, capture_output=True)
            stood = killed(parts, processes, random.uniform(0.2, 3.0))
            subprocess.run(command(parts, processes, resume=True), check=True, capture_output=True)
            a, b = weights(whole), weights(parts)
            same = a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
            print(f"{processes} processes, saved last at {stood}: weights {'equal' if same else 'differ'}", flush=True)
            equal &= same
    return conclude("weights of resumed runs, bit for bit", "equal" if equal else "different", "equal", equal)


if __name__ == "__main__":
    sys.exit(main())
