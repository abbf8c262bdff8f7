"""Reconstruction: the weights of a block are rounded so that its output, not each weight, comes close to float.

AdaRound (layer by layer), BRECQ (blocks; Li et al., arXiv 2102.05426) and QDrop (blocks whose activations are
quantized at random) are one walk over the graph with different settings. Each block sees what the blocks before it,
rounded already, give, and is to give what the float network gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.quant import calibration, vitis
from lowwatt.quant.blocks import Block, Mode, cut
from lowwatt.quant.fisher import importance
from lowwatt.quant.learner import Learner, Loss, Schedule
from lowwatt.quant.plan import Params, Plan
from lowwatt.quant.rounding import Masks
from lowwatt.quant.walk import Walk
from lowwatt.types import Array, QuantParams

Method = Literal["adaround", "brecq", "qdrop"]
METHODS: dict[str, Mode] = {"adaround": "layer", "brecq": "block", "qdrop": "block"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reconstruct.

    `keep` is QDrop's probability that a value is quantized. `learn_scales` None: in blocks, not for adaround; powers of
    two never learn. Biases learn where they are no narrow integers. `scale_lr` and `bias_lr` are shares of the scale,
    and of the biases' root mean square, at the start. `fisher` weighs each output element by how far it moves the
    network's outputs. `pull` is the weight of AdaRound's regulariser. `memory` bounds the activations kept, in bytes.

    AdaRound's rate of 1e-3 is made for 20,000 iterations: V, which moves by about a rate an iteration, hardly leaves
    nearest rounding in 500 of them. Ten times the rate is worth 7 to 15 points at 2 bits (docs/log.md).
    """

    method: Method = "qdrop"
    iterations: int = 500
    batch: int = 32
    lr: float = 1e-2
    scale_lr: float = 4e-4
    bias_lr: float = 2e-3
    keep: float = 0.5
    learn_scales: bool | None = None
    fisher: bool = False
    pull: float = 0.01
    memory: int = 4 << 30
    seed: int = 0

    @property
    def scales(self) -> bool:
        """Whether activation scales learn."""
        return self.method != "adaround" if self.learn_scales is None else self.learn_scales


@dataclass(frozen=True, slots=True)
class BlockReport:
    """Squared error at a block's outputs (summed over channels, mean over positions), with the rounding before it to
    nearest and after reconstruction, all activations quantized.
    """

    name: str
    layers: tuple[str, ...]
    before: float
    after: float


Progress = Callable[[BlockReport], None]


def reconstruct(
    graph: Graph,
    plan: Plan,
    params: Params,
    batches: Iterable[Array],
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> tuple[Graph, dict[str, QuantParams]]:
    """A prepared float graph with weights on the grids of `params`, and the formats with learned scales.

    Every layer whose weights carry integers in the plan is reconstructed; `lowwatt.quant.ptq.report_of` makes the
    quantized graph. `batches` are float32 NHWC arrays. The same seed gives the same bytes. ToolError for unknown
    methods, for no images, and where the activations between blocks need more memory than allowed.
    """
    settings = settings or Settings()
    if settings.method not in METHODS:
        raise ToolError(f"unknown method {settings.method}", hint=f"known: {', '.join(METHODS)}")
    formats = dict(vitis.legalize(graph, plan, params) if plan.scheme.legality == "dpu" else params)
    result = graph.copy()
    blocks = cut(graph, METHODS[settings.method])
    walk = Walk(graph, blocks, formats, _images(batches), settings.memory)
    weights_of = importance(graph, blocks, walk.images(), settings.seed) if settings.fisher else {}
    masks = Masks(settings.keep, settings.seed) if settings.method == "qdrop" else None
    schedule = Schedule(
        settings.iterations, settings.batch, settings.lr, settings.scale_lr, settings.bias_lr, settings.pull
    )
    generator = torch.Generator().manual_seed(settings.seed)
    for block in blocks:
        walk.enter(block)
        loss = Loss({name: walk.real[name] for name in block.outputs}, weights_of)
        learner = Learner(walk, block, plan, formats, settings.scales, masks)
        if learner.weights is None:
            walk.leave(block)
            continue
        report = _improve(walk, block, learner, loss, schedule, generator)
        for name in learner.start:
            result.set_constant(name, walk.rounded.constants[name].numpy().copy())
        if progress is not None:
            progress(report)
    return result, formats | calibration.accumulators(result, plan, formats)


def _improve(
    walk: Walk, block: Block, learner: Learner, loss: Loss, schedule: Schedule, generator: torch.Generator
) -> BlockReport:
    """Learn; keep what was learned only where it is better than rounding to nearest."""
    nearest = walk.outputs(block)
    before = loss.of(nearest)
    learner.train(loss, schedule, generator)
    learner.settle()
    learned = walk.outputs(block)
    after = loss.of(learned)
    if after > before:
        learner.revert()
        learned, after = nearest, before
    walk.leave(block, learned)
    return BlockReport(block.name, tuple(node.name for node in block.layers), before, after)


def _images(batches: Iterable[Array]) -> torch.Tensor:
    found = [np.asarray(batch, np.float32) for batch in batches]
    if not found:
        raise ToolError("reconstruction needs at least one image")
    return torch.from_numpy(np.concatenate(found))
