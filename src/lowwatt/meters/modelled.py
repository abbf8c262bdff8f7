"""The energy that a target's description gives for a time and a number of images. Nothing is measured."""

from __future__ import annotations

from lowwatt.meters.base import How, Kind, Rail
from lowwatt.meters.recording import Recording
from lowwatt.targets import Target, load_target


class ModelledMeter:
    """`target`'s watts at all times; `over` adds its joules an image (docs/dpu.md 6.2).

    >>> round(ModelledMeter("ultra96v2-lpcv").over(24.557e-3 * 20288, 20288).total)
    419
    """

    name = "modelled"
    kind: Kind = "watts"
    how: How = "modelled"
    interval = 1.0

    def __init__(self, target: Target | str = "ultra96v2-lpcv") -> None:
        machine = target if isinstance(target, Target) else load_target(target)
        self._figures = machine.energy
        self.rails = (Rail(self._figures.rail, f"as {machine.name} is described"),)
        self.provenance = self._figures.words

    def read(self) -> list[float]:
        """The target's mean power, W."""
        return [self._figures.watts]

    def over(self, seconds: float, images: int) -> Recording:
        """Energy of `images` frames in `seconds`."""
        joules = self._figures.joules(seconds, images)
        return Recording(
            self.name, "joules", self.how, self.rails, self.provenance, end=seconds, times=[0.0, seconds],
            values=[(0.0,), (joules,)],
        )  # fmt: skip
