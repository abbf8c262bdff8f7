"""Effort: one dial from seconds to an hour. Each level is a list of steps; a step that does not help is taken back."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph
from lowwatt.quant import vitis
from lowwatt.quant.analysis import output_snr
from lowwatt.quant.bias import correct_biases
from lowwatt.quant.calibration import Histogram, calibrate, collect, merged
from lowwatt.quant.calibration_images import check_images, image_warnings
from lowwatt.quant.equalize import equalize
from lowwatt.quant.executor import TorchExecutor
from lowwatt.quant.plan import Params, Plan, apply
from lowwatt.types import Array

JUDGED = 16
"""Calibration images on which a step is judged."""

Progress = Callable[[str, float], None]
"""Told the step's name and its share done, 0…1."""


@dataclass(frozen=True, slots=True)
class StepNote:
    """What a step cost and brought: seconds, and the outputs' signal to noise in dB after it; `kept` or taken back."""

    name: str
    seconds: float
    snr_db: float
    kept: bool = True


@dataclass(slots=True)
class Work:
    """A quantization on its way: float graph as steps changed it, plan, formats. `original` is what it must equal."""

    original: Graph
    graph: Graph
    plan: Plan
    params: Params
    batches: Sequence[Array]
    method: str
    progress: Progress
    notes: list[StepNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def legal(self, graph: Graph, params: Params) -> Params:
        """The formats as the target allows them."""
        return vitis.legalize(graph, self.plan, params) if self.plan.scheme.legality == "dpu" else params


Candidate = tuple[Graph, Params]
Step = Callable[[Work], Candidate]


def calibrate_ranges(work: Work) -> Candidate:
    """Formats of all tensors from one pass over the images."""
    halves = _halves(work)
    work.warnings += image_warnings(work.plan, halves)
    histograms = {name: merged([half[name] for half in halves]) for name in halves[0]}
    return work.graph, work.legal(work.graph, calibrate(work.graph, work.plan, histograms, work.method))


def _halves(work: Work) -> list[dict[str, Histogram]]:
    """Histograms of every second batch and of the others, so that they can be held against each other."""
    total, seen = sum(map(len, work.batches)), 0
    tables = []
    for half in (work.batches[::2], work.batches[1::2]):
        if half:
            tables.append(collect(work.graph, half, functools.partial(_tell, work, seen, total)))
            seen += sum(map(len, half))
    return tables


def _tell(work: Work, before: int, total: int, seen: int) -> None:
    work.progress("calibrate", (before + seen) / total)


def correct_means(work: Work) -> Candidate:
    """Biases that take back the shifts of rounding."""
    return _corrected(work, work.graph, work.params)


def _corrected(work: Work, graph: Graph, params: Params) -> Candidate:
    graph, params = correct_biases(graph, work.plan, params, work.batches, work.method)
    return graph, work.legal(graph, params)


def equalize_channels(work: Work) -> Candidate:
    """Even channel ranges, formats for them, and means corrected."""
    even = equalize(work.original)
    params = calibrate(even, work.plan, collect(even, work.batches), work.method)
    return _corrected(work, even, work.legal(even, params))


EFFORTS: dict[str, tuple[Step, ...]] = {
    "fast": (calibrate_ranges, correct_means),
    "good": (calibrate_ranges, correct_means, equalize_channels),
}
"""Level → steps, in order."""


def run_steps(work: Work, effort: str) -> None:
    """Take the steps of a level; each stays only where the network's outputs come nearer to the float ones."""
    if effort not in EFFORTS:
        raise ToolError(
            f"unknown effort {effort}", hint=did_you_mean(effort, EFFORTS) or f"known: {', '.join(EFFORTS)}"
        )
    check_images(work.batches)
    judge = _Judge(work)
    best = float("-inf")
    for step in EFFORTS[effort]:
        began = time.monotonic()
        work.progress(step.__name__, 0.0)
        graph, params = step(work)
        snr = judge(graph, params)
        kept = snr >= best
        if kept:
            work.graph, work.params, best = graph, params, snr
        work.notes.append(StepNote(step.__name__, time.monotonic() - began, snr, kept))
        work.progress(step.__name__, 1.0)


class _Judge:
    """Signal to noise of the outputs on some of the calibration images, mean over the outputs."""

    def __init__(self, work: Work) -> None:
        self._images = [torch.from_numpy(batch) for batch in _first(work.batches, JUDGED)]
        self._input = work.original.inputs[0]
        self._real = self._run(TorchExecutor(work.original))

    def __call__(self, graph: Graph, params: Params) -> float:
        found = self._run(TorchExecutor(apply(graph, params)))
        return sum(output_snr(self._real, found).values()) / len(self._real)

    def _run(self, executor: TorchExecutor) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            parts = [executor({self._input: image}) for image in self._images]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _first(batches: Sequence[Array], count: int) -> list[Array]:
    chosen: list[Array] = []
    for batch in batches:
        if sum(map(len, chosen)) >= count:
            break
        chosen.append(batch)
    return chosen
