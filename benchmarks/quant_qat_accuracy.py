"""AP that YOLOX-FPGA keeps on the DPU's integers after quantization-aware training, relative to FP32.

FP32 is the network as it came; PTQ is calibration alone; QAT is measured on the compiled
core. MQBench's own figures for its YOLOX-FPGA on Vitis: 29.3 (FP32), 25.3 (PTQ), 27.4 (QAT), 6.5 % lost.

    python benchmarks/quant_qat_accuracy.py [--model M.safetensors] [--data COCO] [--set qat.epochs=2 ...] [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from quant_accuracy import DETECTOR, SHARED, Subject
from verdict import conclude

from lowwatt.data import open_data
from lowwatt.loading import load, load_with_head
from lowwatt.models.checkpoint import Model
from lowwatt.quant.ptq import QuantReport
from lowwatt.quant.qat_training import train_qat
from lowwatt.recipe import load_recipe
from lowwatt.training.log import Lines
from lowwatt.verbs.yardstick import yardstick_for

BAR = 0.01


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DETECTOR)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "coco_mini", help="COCO folder")
    parser.add_argument("--set", nargs="*", default=["qat.epochs=2"], help="settings of the recipe's qat section")
    parser.add_argument("--out", type=Path, help="folder of the run; a temporary one where absent")
    return parser.parse_args()


def fine_tuned(given: argparse.Namespace) -> QuantReport:
    """The quantization that QAT trained, with the time it took."""
    model = load(given.model)
    assert isinstance(model, Model)
    settings = model.recipe.data.model_copy(update={"root": str(given.data), "classes": list(model.labels)})
    train, val = open_data(settings)
    qat = load_recipe(None, given.set).qat
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = train_qat(model, given.out or folder, qat, data=(train, val), progress=Lines())
    print(f"  QAT, {qat.epochs} epochs, {qat.quantizer}: {time.process_time() - start:.0f} s of processor time")
    return result.report


def main() -> int:
    given = arguments()
    torch.set_num_threads(1)
    graph, _ = load_with_head(given.model)
    network = Subject(graph, yardstick_for(graph, str(given.data)))
    plain = network.quantize(effort="fast")
    before, calibrated = network.measure(plain, "FP32"), network.measure(plain, "integer")
    after = network.measure(fine_tuned(given), "integer")
    lost = 1 - after / before
    print(f"FP32 {before:.4f}, PTQ {calibrated:.4f} ({calibrated / before - 1:+.1%}), QAT {after:.4f}")
    what = "share of FP32 AP that INT8 (vitis, integers, QAT) loses"
    return conclude(what, f"{lost:+.1%} ({before:.4f} → {after:.4f})", f"{BAR:.0%}", lost <= BAR)


if __name__ == "__main__":
    sys.exit(main())
