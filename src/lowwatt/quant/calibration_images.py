"""Whether calibration images are enough, and images at all: what would quietly spoil every range is said, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.quant.calibration import Histogram, samples_of
from lowwatt.quant.fit import fit
from lowwatt.quant.plan import Plan, Slot
from lowwatt.types import Array

MOVING = 1.25
"""Ratio of a tensor's range between two halves of the images from which on it counts as unsettled."""

TOLERATED = 0.1
"""Share of unsettled tensors that is normal."""


def check_images(batches: Sequence[Array]) -> None:
    """ToolError for no images, values that are no numbers, and images of one flat colour."""
    if not any(map(len, batches)):
        raise ToolError("calibration needs at least one image", hint="check the data set with `lowwatt data check`")
    if not all(np.isfinite(batch).all() for batch in batches):
        raise ToolError("calibration met a value that is not finite", where="the images")
    if all(np.ptp(batch) == 0 for batch in batches):
        raise ToolError(
            "the calibration images are blank",
            why=f"every pixel is {float(batches[0].flat[0]):g}",
            hint="give images like those that the detector will see",
        )


def image_warnings(plan: Plan, halves: Sequence[Mapping[str, Histogram]]) -> list[str]:
    """What is doubtful about the images: too few of them, or ranges that differ between two halves of them."""
    if len(halves) < 2:
        return ["one batch of calibration images cannot be checked against another: give 16 images or more"]
    apart = {name: _ratio(slots, halves) for name, slots in plan.groups().items()}
    unsettled = {name: ratio for name, ratio in apart.items() if ratio >= MOVING}
    if len(unsettled) <= TOLERATED * len(apart):
        return []
    worst = max(unsettled, key=lambda name: unsettled[name])
    return [
        f"too few or too different calibration images: {len(unsettled)} of {len(apart)} ranges differ by a quarter or "
        f"more between two halves of them (worst {worst}, {unsettled[worst]:.2f} times); give more images"
    ]


def _ratio(slots: Sequence[Slot], halves: Sequence[Mapping[str, Histogram]]) -> float:
    """How much wider the range is by the one half of the images than by the other; without outliers."""
    format = slots[0].format.model_copy(update={"power_of_two": False})
    found = [fit(samples_of([half[s.name] for s in slots]), format, "percentile").scale for half in halves]
    scales = np.array(found, np.float64)
    return float(scales.max() / scales.min())
