"""Time of a QAT step beside a float step: YOLOX-FPGA of width .25, one thread, real detection loss, AdamW.

Both networks train in turns in one process; processor time, least of each kind's rounds. The float network has live
batch norms; the QAT one is quantized for the DPU with trained thresholds, batch norms frozen (as fine-tuning has
them) and live. The bar is on the frozen one at 96 pixels and 4 images; the other sizes are for the record.

    python benchmarks/quant_qat_step.py [--profile]
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from verdict import conclude

from lowwatt.capture import capture
from lowwatt.models.yolox import STRIDES, build_model, output_names
from lowwatt.quant.qat import QatModule, prepare
from lowwatt.quant.qat_training import groups
from lowwatt.recipe import ModelSettings, TrainSettings
from lowwatt.training.loss import detection_loss, flatten, pad_targets
from lowwatt.training.optimizer import optimizer_of, parameter_groups

BAR = 1.8
SIZES = ((96, 4), (192, 8))
ROUNDS, STEPS = 12, 4
SETTINGS = TrainSettings(optimizer="adamw", lr=1e-6)


def network(size: int) -> nn.Module:
    """Freshly initialised, with statistics of random images."""
    torch.manual_seed(0)
    module = build_model(ModelSettings(width=0.25, size=size), 1).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(5):
            module(pixels(size, 4))
    return module


def pixels(size: int, count: int) -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, size, size, 1)).astype(np.float32)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def step_of(module: nn.Module, trained: list[dict[str, Any]], size: int, count: int) -> Callable[[], None]:
    """One step: forward, loss of two boxes an image, backward, optimizer."""
    optimizer, images = optimizer_of(trained, SETTINGS), pixels(size, count)
    boxes = [np.array([[8, 8, size / 2, size / 2], [size / 3, 5, size - 9, size - 5]], np.float32)] * count
    targets = pad_targets(boxes, [np.zeros(2, np.int64)] * count, torch.device("cpu"))

    def step() -> None:
        predictions = flatten(module(images), (size, size), STRIDES)
        optimizer.zero_grad(set_to_none=True)
        detection_loss(predictions, targets, l1=True).total.backward()
        optimizer.step()

    return step


def steps_at(size: int, count: int) -> dict[str, Callable[[], None]]:
    """The three kinds of step on copies of one network."""
    floating = network(size)
    graph = capture(floating, torch.zeros(1, 1, size, size), output_names=output_names())
    prepared = prepare(graph, [pixels(size, 4).permute(0, 2, 3, 1).numpy()])
    table = {"float": step_of(floating.train(), parameter_groups(floating, SETTINGS), size, count)}
    for name in ("frozen", "live"):
        module = QatModule(copy.deepcopy(floating), prepared)
        module.train().set_live(name == "live")
        table[name] = step_of(module, groups(module, SETTINGS.weight_decay, 10), size, count)
    return table


def milliseconds(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Least processor time of a step of each kind, in turns."""
    best = dict.fromkeys(steps, float("inf"))
    for turn in range(ROUNDS):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(STEPS):
                step()
            spent = (time.process_time() - start) / STEPS * 1000
            best[name] = min(best[name], spent) if turn else best[name]
    return best


def main() -> int:
    torch.set_num_threads(1)
    if "--profile" in sys.argv:
        return profile()
    ratios = {}
    for size, count in SIZES:
        found = milliseconds(steps_at(size, count))
        ratios[size, count] = found["frozen"] / found["float"]
        shown = ", ".join(f"{name} {ms:.1f} ms ({ms / found['float']:.2f} x)" for name, ms in found.items())
        print(f"{size} px, batch {count}: {shown}", flush=True)
    figure = ratios[SIZES[0]]
    what = "QAT step against the float step, YOLOX-FPGA .25 at 96 px, batch 4, one thread"
    return conclude(what, f"{figure:.2f} x", f"{BAR} x", figure <= BAR)


def profile() -> int:
    for name, step in steps_at(*SIZES[0]).items():
        step()
        with torch.profiler.profile() as seen:
            for _ in range(5):
                step()
        print(name, seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=22, max_name_column_width=40))
    return 0


if __name__ == "__main__":
    sys.exit(main())
