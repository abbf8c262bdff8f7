"""AP that post-training quantization costs YOLOX-FPGA for the DPU, measured on integers, relative to FP32.

MQBench's own figure for its YOLOX-FPGA on Vitis is 29.3 → 25.3 AP: 13.7 % lost.

    python benchmarks/quant_ptq_accuracy.py [--model M.safetensors] [--data COCO]
"""

from __future__ import annotations

import sys

from quant_accuracy import subject
from verdict import conclude

BAR = 0.03


def main() -> int:
    network = subject(__doc__)
    report = network.quantize(effort="good")
    before, after = network.measure(report, "FP32"), network.measure(report, "integer")
    lost = 1 - after / before
    what = "share of FP32 AP that INT8 (vitis, integers, PTQ good) loses"
    return conclude(what, f"{lost:+.1%} ({before:.4f} → {after:.4f})", f"{BAR:.0%}", lost <= BAR)


if __name__ == "__main__":
    sys.exit(main())
