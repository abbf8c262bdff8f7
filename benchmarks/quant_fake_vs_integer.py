"""AP of the fake-quantized network on torch against the integers of the compiled core, whole val split, vitis.

python benchmarks/quant_fake_vs_integer.py [--model M.safetensors] [--data COCO]
"""

from __future__ import annotations

import sys

from quant_accuracy import subject
from verdict import conclude

BAR = 0.0001
"""0.01 AP points, of AP 0…1."""


def main() -> int:
    network = subject(__doc__)
    report = network.quantize(effort="fast")
    apart = abs(network.measure(report, "fake-quant") - network.measure(report, "integer"))
    what = "fake-quantized and integer AP apart, in points"
    return conclude(what, f"{100 * apart:.4f}", f"{100 * BAR:.2f}", apart <= BAR)


if __name__ == "__main__":
    sys.exit(main())
