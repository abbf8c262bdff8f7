"""Loss of every step in two processes (gloo, torchrun) against one process that takes the same batches.

    python benchmarks/train_two_processes.py [--data COCO]

Fine-tuning of the packaged detector of people on images of coco_mini, float32 on the CPU, batch norms live and over
both processes. The one process has the same batch norm: torch's own, channels last, sums in float32 on a CPU, which
alone makes 1e-5. A network that has learnt nothing is no subject: all anchors cost the same there, so that the last bit
of a sum decides which of them learns a box.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from quant_accuracy import DETECTOR, SHARED
from verdict import conclude

BAR = 1e-5
IMAGES, BATCH, SIZE = 64, 8, 192


def run_here(data: Path, out: Path) -> None:
    """Train in this process (or in those of torchrun) and write the loss of every step."""
    from lowwatt.data.coco import read_coco
    from lowwatt.models.checkpoint import load
    from lowwatt.ranks import rank
    from lowwatt.training import train

    recipe = load(DETECTOR).recipe
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"size": SIZE, "init": str(DETECTOR)}),
            "train": type(recipe.train)(
                epochs=1,
                batch=BATCH,
                lr=1e-3,
                warmup_epochs=0,
                plain_epochs=0,
                mosaic=0.5,
                device="cpu",
                precision="fp32",
                threads=1,
            ),
        }
    )
    splits = [read_coco(data / f"{split}.json", data / "images", ["person"]) for split in ("train", "val")]
    crowded = [i for i, boxes in enumerate(splits[0].boxes) if len(boxes)][:IMAGES]
    train_data = replace(
        splits[0],
        images=tuple(splits[0].images[i] for i in crowded),
        boxes=tuple(splits[0].boxes[i] for i in crowded),
    )
    losses: list[float] = []

    class Watch:
        def start(self, total: int) -> None: ...

        def update(self, done: int, info: Any) -> None:
            if "row" not in info:
                losses.append(info["loss"])

        def finish(self) -> None: ...

    if "WORLD_SIZE" not in os.environ:
        exact_norms()
    train(recipe, out, data=(train_data, splits[1].first(8)), progress=Watch())
    if rank() == 0:
        (out / "losses.json").write_text(json.dumps(losses))


def exact_norms() -> None:
    """The one process takes the norms of several: torch's own, channels last, sum in float32 and are 3e-5 off."""
    from lowwatt.training.detection import DetectionTask
    from lowwatt.training.sync_norm import synchronised

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo")
    build = DetectionTask.build
    DetectionTask.build = lambda task: synchronised(build(task), torch.device("cpu"))  # type: ignore[method-assign]


def losses_of(processes: int, data: Path, folder: Path) -> list[float]:
    """In `processes` processes of their own."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    out = folder / str(processes)
    command = [sys.executable, *launch, __file__, "--data", str(data), "--here", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return list(json.loads((out / "losses.json").read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "coco_mini", help="COCO folder")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here is not None:
        run_here(given.data, given.here)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        one, two = (losses_of(count, given.data, Path(folder)) for count in (1, 2))
    worst = 0.0
    for step, (a, b) in enumerate(zip(one, two, strict=True), 1):
        worst = max(worst, abs(a - b) / a)
        print(f"step {step}: {a:.6f} in one process, {b:.6f} in two, {abs(a - b) / a:.1e} apart")
    what = f"largest difference of the loss over {len(one)} steps, two processes and one"
    return conclude(what, f"{worst:.1e}", f"{BAR:.0e}", worst <= BAR)


if __name__ == "__main__":
    sys.exit(main())
