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
from lowwatt.quant.rounding import Adam, Masks, SoftWeights, pull_at
from lowwatt.quant.walk import Values, Walk
from lowwatt.types import QuantParams


@dataclass(frozen=True, slots=True)
class Schedule:
    """Iterations, images of one, learning rates (of scales and biases: as a share of each), regulariser's weight."""

    iterations: int
    batch: int
    lr: float
    scale_lr: float
    bias_lr: float
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
        grad = (value.detach() - self.targets[name][part]).mul_(torch.tensor(2 * value.shape[-1] / value.numel()))
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
        self.biases = _biases(block, set(constants), plan, walk)
        self.start = {name: walk.rounded.constants[name] for name in (*constants, *self.biases)}
        """Constants as they were: weights to nearest."""
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
        self.walk.rounded.constants.update(self.weights.leaves)
        adam, first = self._parameters(schedule)
        slow = adam.rates[len(self.weights.v) :]
        cosine = (1 + torch.cos(torch.arange(schedule.iterations) * (math.pi / schedule.iterations))) / 2
        count = len(next(iter(loss.targets.values())))
        batch = min(schedule.batch, count)
        starts = torch.randint(0, count - batch + 1, (schedule.iterations,), generator=generator).tolist()
        for step, (start, share) in enumerate(zip(starts, cosine.unbind(), strict=True)):
            pull = pull_at(step + 1, schedule.iterations, schedule.pull)
            torch.mul(first, share, out=slow)
            adam.step(self._gradient(loss, slice(start, start + batch), pull))
        self.walk.quantizers.clear()
        self.walk.quantizers.update(plain)

    def _parameters(self, schedule: Schedule) -> tuple[Adam, torch.Tensor]:
        """V, biases and scales as one vector, of which they become views; the first rates of biases and scales."""
        assert self.weights is not None
        learned = [a for a in self.activations.values() if a.learns]
        biases = [self.start[name] for name in self.biases]
        slow = [schedule.bias_lr * bias.square().mean().sqrt().expand_as(bias) for bias in biases]
        scales = torch.tensor([float(a.scale.detach()) for a in learned])
        vector = torch.cat([self.weights.v, *biases, scales])
        sizes = [len(self.weights.v), *map(len, biases), *[1] * len(learned)]
        self.weights.v, *views = vector.split(sizes)
        leaves = [view.detach().requires_grad_() for view in views]
        self.walk.rounded.constants.update(zip(self.biases, leaves, strict=False))
        for activation, scale in zip(learned, leaves[len(biases) :], strict=True):
            activation.scale = scale.view(()).detach().requires_grad_()
        return Adam(vector, torch.full_like(vector, schedule.lr)), torch.cat([*slow, schedule.scale_lr * scales])

    def _gradient(self, loss: Loss, part: slice, pull: tuple[float, float] | None) -> torch.Tensor:
        assert self.weights is not None
        self.weights.soften()
        values = {name: self._input(name, part) for name in self.block.inputs}
        self.walk.rounded.run(self.block.nodes, values, self.block.outputs)
        outputs = [name for name in self.block.outputs if values[name].requires_grad]
        leaves = list(self.weights.leaves.values())
        rest = [self.walk.rounded.constants[name] for name in self.biases]
        rest += [a.scale for a in self.activations.values() if a.learns]
        grads = torch.autograd.grad(
            [values[name] for name in outputs],
            [*leaves, *rest],
            [loss.gradient(name, values[name], part) for name in outputs],
            materialize_grads=True,
        )
        toward = self.weights.gradient(grads[: len(leaves)], pull)
        return torch.cat([toward, *(grad.reshape(-1) for grad in grads[len(leaves) :])])

    def _input(self, name: str, part: slice) -> torch.Tensor:
        quantized = self.walk.quantized[name][part]
        if self.masks is None:
            return quantized
        return torch.lerp(self.walk.real[name][part], quantized, self.masks.like(quantized))

    def settle(self) -> None:
        """Hard weights, biases and learned scales into the walk and the formats."""
        assert self.weights is not None
        constants = self.walk.rounded.constants
        constants.update(self.weights.hard())
        constants.update({name: constants[name].detach() for name in self.biases})
        self.walk.done.update(self.start)
        for group, members in self.groups.items():
            activation = self.activations[group]
            if activation.learns:
                quant = replace(activation.quant, scale=float(np.float32(float(activation.scale.detach()))))
                self._adopt(dict.fromkeys(members, quant))

    def revert(self) -> None:
        """Weights to nearest, biases and scales as they were."""
        self.walk.rounded.constants.update(self.start)
        for group, members in self.groups.items():
            self._adopt(dict.fromkeys(members, self.activations[group].quant))

    def _adopt(self, formats: Params) -> None:
        self.params.update(formats)
        self.walk.adopt(formats)


def _biases(block: Block, weights: set[str], plan: Plan, walk: Walk) -> list[str]:
    """Biases beside these weights, in float or in 32 bits, which is as good; not those of an earlier block."""
    names = dict.fromkeys(n.inputs[2] for n in block.layers if len(n.inputs) > 2 and n.inputs[1] in weights)
    fine = [name for name in names if name not in plan.slots or plan.slots[name].format.bits >= 32]
    return [name for name in fine if name not in walk.done and name in walk.rounded.constants]


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
