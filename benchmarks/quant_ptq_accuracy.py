"""AP that post-training quantization costs YOLOX-FPGA for the DPU, measured on integers, relative to FP32.

MQBench's own figure for its YOLOX-FPGA on Vitis is 29.3 → 25.3 AP: 13.7 % lost.

    python benchmarks/quant_ptq_accuracy.py [--model M.safetensors] [--data COCO]
"""

from __future__ import annotations

import sys

from quant_accuracy import conclude_loss, subject

BAR = 0.03


def main() -> int:
    network = subject(__doc__)
    report = network.quantize(effort="good")
    what = "share of FP32 AP that INT8 (vitis, integers, PTQ good) loses"
    return conclude_loss(network, report, "integer", what, BAR)


if __name__ == "__main__":
    sys.exit(main())
