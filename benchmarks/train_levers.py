"""AP50:95 on val of our default recipe with one setting changed at a time: which lever is worth its name.

The same data, size, epochs, batch and seeds for each; final averaged weights, confidence 0.01, NMS 0.65. A lever is a
setting of the recipe, or several with semicolons between. The bar is the default recipe's: no lever may be better by more than
the seeds differ, or it ought to be the default.

    python benchmarks/train_levers.py --data bccd --epochs 40 --warmup 3 --plain 5 [--seeds 0 1] \
        [--lever model.head=shared] [--lever train.mixup=0.5] [--lever distill.teacher=yolox_nano.onnx]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from verdict import conclude
from yolox_peer import DATA, Task, told

from lowwatt.recipe import load_recipe
from lowwatt.training import train

LEVERS = ("model.head=shared", "model.reparam=true", "train.mixup=0.5", "train.balance=0.5", "train.scale=[0.8,1.25]")


def ap(task: Task, seed: int, lever: str) -> float:
    """Of one run."""
    with tempfile.TemporaryDirectory() as out:
        base = Path(out) / "base.yaml"  # which JSON is
        base.write_text(task.recipe(seed, {"precision": "bf16"}, default=True).model_dump_json(), encoding="utf-8")
        recipe = load_recipe(base, [part for part in lever.split(";") if part])
        return float(train(recipe, Path(out) / "run").info["ap"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="bccd")
    for name, default in (("size", 160), ("epochs", 40), ("batch", 16), ("warmup", 3), ("plain", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--lever", action="append", metavar="KEY=VALUE[;…]", help="default: those in the file")
    a = parser.parse_args()
    task = Task(a.data, a.size, a.width, a.epochs, a.batch, a.warmup, a.plain)
    found: dict[str, list[float]] = {}
    for lever in ("", *(a.lever or LEVERS)):
        found[lever] = []
        for seed in a.seeds:
            found[lever].append(ap(task, seed, lever))
            print(f"  {lever or 'default':40} seed {seed}: {found[lever][-1]:.4f}", flush=True)
    means = {lever: statistics.mean(values) for lever, values in found.items()}
    spread = max(found[""]) - min(found[""])
    best = max(means, key=lambda lever: means[lever])
    what = f"the default recipe beside the best of {len(found) - 1} levers ({best or 'itself'}), {task.data}"
    holds = means[best] - means[""] <= spread
    return conclude(what, f"{means['']:.4f} against {means[best]:.4f}", f"within the seeds' {spread:.4f}", holds)


if __name__ == "__main__":
    sys.exit(told(main))
