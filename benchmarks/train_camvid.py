"""Mean IoU of a small segmenter on CamVid's streets, trained on one CPU core, in FP32 and in the DPU's integers.

    python benchmarks/train_camvid.py [--data CAMVID] [key=value …]

The baseline knows where in a picture things mostly are: for each pixel the class that train has there most often.
"""

from __future__ import annotations

import sys

import numpy as np
from task_road import measured

from lowwatt.evaluate.miou import counted, mean_iou
from lowwatt.verbs.produce import Road


def usual_place(road: Road) -> tuple[str, float]:
    """All of CamVid's pictures have one size, and their horizon about one height."""
    train, val = road.training_data, road.validation_data
    classes = len(train.labels)
    votes = np.zeros((classes, *train.mask(0).shape), np.int64)
    for index in range(len(train)):
        votes += np.arange(classes)[:, None, None] == train.mask(index)
    usual = votes.argmax(0).astype(np.uint8)
    counts = sum(counted(val.mask(index), usual, classes) for index in range(len(val)))
    return "each pixel's most frequent class", mean_iou(np.asarray(counts), val.labels).miou


if __name__ == "__main__":
    sys.exit(measured(__doc__ or "", "camvid_seg.yaml", "camvid", usual_place))
