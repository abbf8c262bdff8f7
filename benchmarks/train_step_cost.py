"""Processor time of one whole training step of YOLOX-FPGA: width .375, 320 pixels, batch 8, bf16, one thread.

The step is that of the training loop: images to float, forward under autocast, simOTA and losses, backward, optimiser
(SGD with Nesterov momentum), averaging. Seven boxes an image, 80 classes. Median of some steps. For the record: the
float32 step, the parts of the bf16 step, and the least time that its convolutions, forward and twice backward, could
take on this processor, at the rate of its best bf16 matrix product. Other work on the machine raises all figures.

    python benchmarks/train_step_cost.py [--profile]
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from verdict import conclude

from lowwatt.models.yolox import STRIDES, build_model
from lowwatt.recipe import ModelSettings, TrainSettings
from lowwatt.training.ema import Ema
from lowwatt.training.loss import detection_loss, flatten, pad_targets
from lowwatt.training.optimizer import optimizer_of, parameter_groups

BAR = 0.45
SIDE, BATCH, BOXES, CLASSES = 320, 8, 7, 80
STEPS = 11
CONVOLUTIONS = 3 * 2 * 2.033e9 * BATCH
"""Operations of a step's convolutions: forward, and as many again by the images and by the weights."""
PARTS = ("forward", "loss", "backward", "optimiser", "average")


def batch() -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Images uint8 (B, H, W, 1), boxes and labels, as the loader gives them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIDE, SIDE, 1), np.uint8)
    boxes, labels = [], []
    for _ in range(BATCH):
        size, middle = rng.uniform(10, 150, (BOXES, 2)), rng.uniform(0, SIDE, (BOXES, 2))
        corners = np.concatenate((middle - size / 2, middle + size / 2), 1)
        boxes.append(np.clip(corners, 0, SIDE).astype(np.float32))
        labels.append(rng.integers(0, CLASSES, BOXES))
    return images, boxes, labels


def step_of(autocast: Callable[[], AbstractContextManager[object]]) -> Callable[[], list[float]]:
    """One step of a fresh network, which returns the processor seconds of its parts."""
    torch.manual_seed(0)
    settings = TrainSettings(batch=BATCH, lr=1e-4)
    module = build_model(ModelSettings(size=SIDE), CLASSES).to(memory_format=torch.channels_last).train()
    average, optimizer = (
        Ema(module, settings.ema, settings.ema_ramp),
        optimizer_of(parameter_groups(module, settings), settings),
    )
    images, boxes, labels = batch()

    def step() -> list[float]:
        times = [time.process_time()]
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        with autocast():
            outputs = module(pixels)
        times.append(time.process_time())
        targets = pad_targets(boxes, labels, torch.device("cpu"))
        loss = detection_loss(flatten(outputs, (SIDE, SIDE), STRIDES), targets, l1=False).total
        times.append(time.process_time())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        times.append(time.process_time())
        optimizer.step()
        times.append(time.process_time())
        average.update(module)
        times.append(time.process_time())
        return [after - before for before, after in itertools.pairwise(times)]

    return step


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def main() -> int:
    torch.set_num_threads(1)
    steps = {"fp32": step_of(contextlib.nullcontext), "bf16": step_of(bf16)}
    if "--profile" in sys.argv:
        return profile(steps["bf16"])
    spent: dict[str, list[list[float]]] = {name: [] for name in steps}
    for turn in range(STEPS + 1):
        for name, step in steps.items():
            parts = step()
            if turn:
                spent[name].append(parts)
    medians = {name: statistics.median(map(sum, rows)) for name, rows in spent.items()}
    parts = zip(PARTS, (statistics.median(column) for column in zip(*spent["bf16"], strict=True)), strict=True)
    print("bf16: " + ", ".join(f"{part} {1000 * seconds:.0f} ms" for part, seconds in parts))
    print(f"float32: {medians['fp32']:.3f} s; least bf16 step {min(map(sum, spent['bf16'])):.3f} s")
    rate = matrix_rate()
    print(
        f"bf16 matrix product: {rate / 1e9:.0f} GFLOP/s; at that rate the convolutions take {CONVOLUTIONS / rate:.3f} s"
    )
    figure = medians["bf16"]
    what = "training step of YOLOX-FPGA .375 at 320, batch 8, bf16, one thread"
    return conclude(what, f"{figure:.3f} CPU s", f"{BAR} CPU s", figure <= BAR)


def matrix_rate() -> float:
    """Operations a processor second of the best of some bf16 matrix products."""
    best = 0.0
    for side in (512, 1024, 2048):
        a, b = (torch.randn(side, side).bfloat16() for _ in range(2))
        for _ in range(5):
            start = time.process_time()
            a @ b
            best = max(best, 2 * side**3 / (time.process_time() - start))
    return best


def profile(step: Callable[[], list[float]]) -> int:
    step()
    with torch.profiler.profile() as seen:
        for _ in range(3):
            step()
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))
    return 0


if __name__ == "__main__":
    sys.exit(main())
