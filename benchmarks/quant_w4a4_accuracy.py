"""AP of YOLOX-FPGA with 4-bit weights and activations (first and last layers 8 bits) after QDrop, relative to FP32.

python benchmarks/quant_w4a4_accuracy.py [--model M.safetensors] [--data COCO]
"""

from __future__ import annotations

import sys

from quant_accuracy import conclude_loss, subject

BAR = 0.08


def main() -> int:
    network = subject(__doc__)
    report = network.quantize(scheme="academic", weight_bits=4, activation_bits=4, effort="good", images=256)
    what = "share of FP32 AP that W4A4 with reconstruction loses"
    return conclude_loss(network, report, "fake-quant", what, BAR)


if __name__ == "__main__":
    sys.exit(main())
