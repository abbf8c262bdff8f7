"""What learns in one block, and the loop that teaches it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from lowwatt.quant.activations import Activation
from lowwatt.quant.blocks import Block
from lowwatt.quant.plan import Params, Plan, Slot
from lowwatt.quant.rounding import Masks, SoftWeights, pull_at
from lowwatt.quant.walk import Values, Walk
from lowwatt.types import QuantParams


@dataclass(frozen=True, slots=True)
class Schedule:
    """Iterations, images of one, learning rates (that of scales as a share of each), weight of the regulariser."""

    iterations: int
    batch: int
    lr: float
    scale_lr: float
    pull: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Squared difference from `targets`, summed over channels and outputs, mean over positions; perhaps weighted."""

    targets: Values
    weights: Mapping[str, torch.Tensor]

    def of(self, values: Values) -> float:
        """Over all images."""
        return sum(self._one(name, value) for name, value in values.items())

    def _one(self, name: str, value: torch.Tensor) -> float:
        squares = (value - self.targets[name]).square_()
        if name in self.weights:
            squares *= self.weights[name]
        total: float = float(squares.sum(dtype=torch.float64))
        return total * int(value.shape[-1]) / int(value.numel())

    def gradient(self, name: str, value: torch.Tensor, part: slice) -> torch.Tensor:
        """Of the loss on some of the images with respect to `value`."""
        grad = (value.detach() - self.targets[name][part]).mul_(2 * value.shape[-1] / value.numel())
        return grad.mul_(self.weights[name]) if name in self.weights else grad


class Learner:
    """Soft weights and scales of a block, put into the walk's executor while they learn."""

    def __init__(
        self, walk: Walk, block: Block, plan: Plan, params: dict[str, QuantParams], scales: bool, masks: Masks | None
    ) -> None:
        self.walk, self.block, self.params, self.masks = walk, block, params, masks
        names = dict.fromkeys(node.inputs[1] for node in block.layers if node.inputs[1] in params)
        data = {name: walk.graph.tensor(name).data for name in names if name not in walk.done}
        constants = {name: value for name, value in data.items() if value is not None}
        self.weights = SoftWeights(constants, params) if constants else None
        self.nearest = {name: walk.rounded.constants[name] for name in constants}
        self.groups = _groups(block, plan, params)
        self.activations = {
            group: Activation.of(params[members[0]], scales and _learns(members, plan), masks)
            for group, members in self.groups.items()
        }

    def train(self, loss: Loss, schedule: Schedule, generator: torch.Generator) -> None:
        """All iterations."""
        assert self.weights is not None
        plain = dict(self.walk.quantizers)
        self.walk.quantizers.update({n: self.activations[g] for g, members in self.groups.items() for n in members})
        optimizer = self._optimizer(schedule)
        count = len(next(iter(loss.targets.values())))
        batch = min(schedule.batch, count)
        starts = torch.randint(0, count - batch + 1, (schedule.iterations,), generator=generator).tolist()
        for step, start in enumerate(starts):
            self.weights.pull = pull_at(step + 1, schedule.iterations, schedule.pull)
            for group in optimizer.param_groups[1:]:
                group["lr"] = group["first"] * (1 + math.cos(math.pi * step / schedule.iterations)) / 2
            optimizer.zero_grad()
            self._backward(loss, slice(start, start + batch))
            optimizer.step()
        self.walk.quantizers.clear()
        self.walk.quantizers.update(plain)

    def _optimizer(self, schedule: Schedule) -> torch.optim.Adam:
        assert self.weights is not None
        learned = [a.scale for a in self.activations.values() if a.scale.requires_grad]
        rates = [schedule.scale_lr * float(scale.detach()) for scale in learned]
        groups = [{"params": [s], "lr": r, "first": r} for s, r in zip(learned, rates, strict=True)]
        return torch.optim.Adam([{"params": [self.weights.v], "lr": schedule.lr}, *groups], fused=True)

    def _backward(self, loss: Loss, part: slice) -> None:
        assert self.weights is not None
        executor = self.walk.rounded
        executor.constants.update(self.weights.soft())
        values = {name: self._input(name, part) for name in self.block.inputs}
        executor.run(self.block.nodes, values, self.block.outputs)
        outputs = [name for name in self.block.outputs if values[name].requires_grad]
        torch.autograd.backward(
            [values[name] for name in outputs], [loss.gradient(name, values[name], part) for name in outputs]
        )

    def _input(self, name: str, part: slice) -> torch.Tensor:
        quantized = self.walk.quantized[name][part]
        if self.masks is None:
            return quantized
        return torch.lerp(self.walk.real[name][part], quantized, self.masks.like(quantized))

    def settle(self) -> None:
        """Hard weights and learned scales into the walk and the formats."""
        assert self.weights is not None
        self.walk.rounded.constants.update(self.weights.hard())
        self.walk.done.update(self.weights.shapes)
        for group, members in self.groups.items():
            activation = self.activations[group]
            if activation.scale.requires_grad:
                quant = replace(activation.quant, scale=float(np.float32(float(activation.scale.detach()))))
                self._adopt(dict.fromkeys(members, quant))

    def revert(self) -> None:
        """Weights to nearest and scales as they were."""
        self.walk.rounded.constants.update(self.nearest)
        for group, members in self.groups.items():
            self._adopt(dict.fromkeys(members, self.activations[group].quant))

    def _adopt(self, formats: Params) -> None:
        self.params.update(formats)
        self.walk.adopt(formats)


def _groups(block: Block, plan: Plan, params: Params) -> dict[str, list[str]]:
    """Tensors made in the block that carry integers, by the group whose scale they share."""
    table: dict[str, list[str]] = {}
    for node in block.nodes:
        slot = plan.slots.get(node.name)
        if slot is not None and node.name in params:
            table.setdefault(slot.group, []).append(node.name)
    return table


def _learns(members: list[str], plan: Plan) -> bool:
    """Whether a scale is the block's own: no power of two, and nobody outside shares it."""
    slots: list[Slot] = plan.groups()[plan.slots[members[0]].group]
    return not slots[0].format.power_of_two and len(slots) == len(members)
