"""Top-1 of a small ResNet on sixteen kinds of waste, trained on one CPU core, in FP32 and in the DPU's integers.

python benchmarks/train_waste16.py [--data WASTE16] [key=value …]
"""

from __future__ import annotations

import sys

import numpy as np
from task_road import measured

from lowwatt.verbs.produce import Road


def majority(road: Road) -> tuple[str, float]:
    """What naming the most frequent class of train each time gives."""
    train, val = road.training_data, road.validation_data
    likeliest = int(np.bincount([image.label for image in train.images]).argmax())
    share = float(np.mean([image.label == likeliest for image in val.images]))
    return f"always {train.labels[likeliest]}", share


if __name__ == "__main__":
    sys.exit(measured(__doc__ or "", "waste16_resnet.yaml", "waste16", majority))
