"""AP that yolox_nano (SiLU, an ONNX file of its authors) loses in onnxruntime's int8, whole val split.

Three per cent of its multiply-accumulates may stay in float, in the layers that lose most.

python benchmarks/quant_nano_accuracy.py [--model yolox_nano_416.onnx] [--data COCO]
"""

from __future__ import annotations

import sys

from quant_accuracy import SHARED, subject
from verdict import conclude

BAR = 0.01
"""One AP point."""


def main() -> int:
    network = subject(__doc__, SHARED / "data" / "weights" / "yolox_nano_416.onnx")
    report = network.quantize(scheme="onnxruntime", effort="good", float_share=0.03, images=64)
    before, after = network.measure(report, "FP32"), network.measure(report, "onnxruntime")
    what = "AP points that yolox_nano loses on onnxruntime"
    figure = f"{100 * (before - after):.2f} ({before:.4f} → {after:.4f})"
    return conclude(what, figure, f"{100 * BAR:.1f}", before - after <= BAR)


if __name__ == "__main__":
    sys.exit(main())
