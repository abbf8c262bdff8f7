"""Effort: one dial from seconds to an hour. Each level is a list of steps; a step that does not help is taken back."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph
from lowwatt.quant import vitis
from lowwatt.quant.allocate import allocate, layer_noise, weight_bytes, with_allocation
from lowwatt.quant.analysis import output_snr
from lowwatt.quant.balance import balance
from lowwatt.quant.bias import correct_biases
from lowwatt.quant.blocks import cut
from lowwatt.quant.budget import Budget
from lowwatt.quant.calibration import Histogram, calibrate, collect, merged
from lowwatt.quant.calibration_images import check_images, image_warnings
from lowwatt.quant.equalize import equalize
from lowwatt.quant.executor import TorchExecutor, outputs_of
from lowwatt.quant.output_loss import output_loss
from lowwatt.quant.plan import Params, Plan, apply, float_nodes, replan
from lowwatt.quant.reconstruct import METHODS, BlockReport, Method, Settings, reconstruct
from lowwatt.quant.spare import worst_layers
from lowwatt.quant.tune import tunable, tune
from lowwatt.types import Array

ITERATIONS, LONGER = 200, 5
"""Steps of reconstruction a block, and how many times as many there are at the highest effort: an hour of one core for
YOLOX-FPGA at 256 pixels.
"""

COARSE_SCALE_LR, COARSE_BIAS_LR = 4e-3, 1e-2
"""Scales and biases have more to make up for where there are few bits: on a detector at W4A4, ten times the rate of
scales and five times that of biases brought back half of what was lost (docs/log.md).
"""

RANKED = 4
"""Calibration images on which layers are compared."""

JUDGED = 16
"""Calibration images on which a step is judged."""

SEEING = 20.0
"""dB of signal to noise from which the loss judges a step. Accuracy goes with the loss where a network sees what the
float one sees; where it sees next to nothing, the loss would rather have it see nothing at all (docs/log.md).
"""

Progress = Callable[[str, float], None]
"""Told the step's name and its share done, 0…1."""


@dataclass(frozen=True, slots=True)
class StepNote:
    """What a step cost and brought: seconds, the outputs' signal to noise in dB after it, and their loss
    (`lowwatt.quant.output_loss`); `kept` or taken back.
    """

    name: str
    seconds: float
    snr_db: float
    loss: float
    kept: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """Where a quantization stands. `base` is a float network of the original's function (equalised, perhaps), `graph`
    that network with constants as steps changed them (biases corrected, weights on their grids); `plan` and `params`
    are its slots and their formats, `histograms` the values of the base over all images.
    """

    base: Graph
    graph: Graph
    plan: Plan
    params: Params
    histograms: Mapping[str, Histogram]

    def calibrated(self, plan: Plan, method: str) -> State:
        """The base anew, by another plan."""
        fresh = State(self.base, self.base, plan, {}, self.histograms)
        return fresh.changed(self.base, calibrate(self.base, plan, self.histograms, method))

    def changed(self, graph: Graph, params: Params) -> State:
        """With other constants, and the formats as the target allows them."""
        legal = vitis.legalize(graph, self.plan, params) if self.plan.scheme.legality == "dpu" else params
        return State(self.base, graph, self.plan, legal, self.histograms)


@dataclass(slots=True)
class Work:
    """What the steps need: the prepared float network, images, calibration method; and where they stand."""

    original: Graph
    batches: Sequence[Array]
    method: str
    progress: Progress
    state: State
    budget: Budget
    notes: list[StepNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Step = Callable[[Work], State]


def calibrate_ranges(work: Work) -> State:
    """Formats of all tensors from one pass over the images."""
    halves = _halves(work)
    plan = work.state.plan
    work.warnings += image_warnings(plan, halves)
    histograms = {name: merged([half[name] for half in halves]) for name in halves[0]}
    return State(work.original, work.original, plan, {}, histograms).calibrated(plan, work.method)


def _halves(work: Work) -> list[dict[str, Histogram]]:
    """Histograms of every second batch and of the others, so that they can be held against each other."""
    total, seen = sum(map(len, work.batches)), 0
    tables = []
    for half in (work.batches[::2], work.batches[1::2]):
        if half:
            tables.append(collect(work.original, half, functools.partial(_tell, work, seen, total)))
            seen += sum(map(len, half))
    return tables


def _tell(work: Work, before: int, total: int, seen: int) -> None:
    work.progress("calibrate", (before + seen) / total)


def allocate_bits(work: Work) -> State:
    """Fewer bits for the layers that bear it, as far as the budget wants, or lets."""
    state, images, budget = work.state, np.concatenate(_first(work.batches, RANKED)), work.budget
    noise = layer_noise(state.base, state.plan, state.histograms, images, work.method)
    size = None if budget.keep_db is not None else budget.size_share * weight_bytes(state.base, state.plan)
    found = allocate(state.base, noise, size=size, snr_db=budget.keep_db)
    return state.calibrated(with_allocation(state.plan, state.base, found), work.method)


def correct_means(work: Work) -> State:
    """Biases that take back the shifts of rounding."""
    return _corrected(work, work.state)


def _corrected(work: Work, state: State) -> State:
    return state.changed(*correct_biases(state.base, state.graph, state.plan, state.params, work.batches, work.method))


def equalize_channels(work: Work) -> State:
    """Even channel ranges, formats for them, and means corrected."""
    scheme = work.state.plan.scheme
    if scheme.weights.per_channel:
        even = balance(work.original, work.batches, float_nodes(work.original, scheme))
    else:
        even = equalize(work.original)
    plan = replan(even, work.state.plan)
    fresh = State(even, even, plan, {}, collect(even, work.batches))
    return _corrected(work, fresh.calibrated(plan, work.method))


def spare_layers(work: Work) -> State:
    """The layers that lose most left in float, as far as the budget goes."""
    state, budget = work.state, work.budget

    def with_floats(names: Sequence[str]) -> State:
        return state.calibrated(replan(state.base, state.plan, names), work.method)

    def quantized(names: Sequence[str]) -> Graph:
        found = with_floats(names)
        return apply(found.graph, found.params)

    def fits(names: Sequence[str]) -> bool:
        return budget.fits(lambda: quantized(names))

    images = _first(work.batches, RANKED)
    spared = worst_layers(state.base, state.plan, state.params, images, budget.work_share, fits)
    return _corrected(work, with_floats(spared)) if spared else state


def reconstruct_weights(work: Work) -> State:
    """Weights of each block rounded so that its output comes near to float, then means corrected."""
    return _reconstructed(work, ITERATIONS)


def reconstruct_longer(work: Work) -> State:
    """The same with more iterations, from the weights before any reconstruction."""
    return _reconstructed(work, LONGER * ITERATIONS)


def tune_outputs(work: Work) -> State:
    """Scales, gains and biases of all layers learned together, by the outputs."""
    state = work.state

    def tell(share: float) -> None:
        work.progress("tune", share)

    return state.changed(*tune(state.base, state.graph, state.plan, state.params, work.batches, tell))


def _reconstructed(work: Work, iterations: int) -> State:
    state, done = work.state, itertools.count(1)
    blocks, method = len(cut(state.base, METHODS["brecq"])), _method(state.plan)

    def tell(report: BlockReport) -> None:
        work.progress("reconstruct", min(1.0, next(done) / blocks))

    settings = Settings(method, iterations)
    if coarse(state.plan):
        settings = replace(settings, scale_lr=COARSE_SCALE_LR, bias_lr=COARSE_BIAS_LR)
    graph, params = reconstruct(state.base, state.plan, state.params, work.batches, settings, tell)
    return _corrected(work, state.changed(graph, params))


def _method(plan: Plan) -> Method:
    """QDrop where activations have few bits, what it was made for; else BRECQ, quicker over the same blocks."""
    return "qdrop" if any(slot.format.bits < 8 for slot in plan.of_kind("activations")) else "brecq"


def coarse(plan: Plan) -> bool:
    """Whether anything has fewer than eight bits."""
    return any(slot.format.bits < 8 for slot in plan.slots.values())


FAST: tuple[Step, ...] = (calibrate_ranges, allocate_bits, correct_means)
GOOD: tuple[Step, ...] = (*FAST, equalize_channels, spare_layers, reconstruct_weights, tune_outputs)
BEST: tuple[Step, ...] = (*GOOD, reconstruct_longer, tune_outputs)

EFFORTS: dict[str, tuple[Step, ...]] = {"fast": FAST, "good": GOOD, "best": BEST}
"""Level → steps, in order."""


def run_steps(work: Work, effort: str) -> None:
    """Take the steps of a level; each stays only where the network's outputs come nearer to the float ones: by their
    loss, or by signal to noise as long as there is little of it.
    """
    if effort not in EFFORTS:
        raise ToolError(
            f"unknown effort {effort}", hint=did_you_mean(effort, EFFORTS) or f"known: {', '.join(EFFORTS)}"
        )
    check_images(work.batches)
    judge = _Judge(work)
    best_snr, best_loss = float("-inf"), float("inf")
    for step in EFFORTS[effort]:
        if not _wanted(step, work):
            continue
        began = time.monotonic()
        work.progress(step.__name__, 0.0)
        found = step(work)
        snr, loss = judge(found)
        by_loss = step is tune_outputs or min(snr, best_snr) >= SEEING  # tuning cares for the loss alone
        nearer = loss <= best_loss if by_loss else snr >= best_snr
        kept = nearer or step is allocate_bits  # that one is asked for, and costs
        if kept:
            work.state, best_snr, best_loss = found, snr, loss
        work.notes.append(StepNote(step.__name__, time.monotonic() - began, snr, loss, kept))
        work.progress(step.__name__, 1.0)


def _wanted(step: Step, work: Work) -> bool:
    """Steps that change what runs where, or at how many bits, are taken only where they are asked for; tuning, which
    costs as much as training does, where there are few bits.
    """
    if step is spare_layers:
        return work.budget.some_float
    if step is tune_outputs:
        return coarse(work.state.plan) and tunable(work.state.plan)
    return step is not allocate_bits or work.budget.fewer_bits


class _Judge:
    """Signal to noise of the outputs on some of the calibration images, mean over the outputs; and their loss."""

    def __init__(self, work: Work) -> None:
        self._images = [torch.from_numpy(batch) for batch in _first(work.batches, JUDGED)]
        self._real, self._loss = outputs_of(TorchExecutor(work.original), self._images), output_loss(work.original)

    def __call__(self, state: State) -> tuple[float, float]:
        found = outputs_of(TorchExecutor(apply(state.graph, state.params)), self._images)
        return sum(output_snr(self._real, found).values()) / len(self._real), float(self._loss(found, self._real))


def _first(batches: Sequence[Array], count: int) -> list[Array]:
    chosen: list[Array] = []
    for batch in batches:
        if sum(map(len, chosen)) >= count:
            break
        chosen.append(batch)
    return chosen
