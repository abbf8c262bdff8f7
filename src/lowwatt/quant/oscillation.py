"""Weights that flip between two integers are frozen (Nagel et al., arXiv 2203.11086, 4.3 and algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowwatt.quant.qat import QatModule
from lowwatt.quant.qat_layers import TORCH_LAYOUTS, Layer


@dataclass(slots=True)
class Track:
    """History of one layer's weights, in the graph's layout: integers before, direction of the last change, moving
    share of flips, moving integers, and which are frozen at which integer.
    """

    before: torch.Tensor
    direction: torch.Tensor
    flips: torch.Tensor
    mean: torch.Tensor
    frozen: torch.Tensor
    held: torch.Tensor

    @classmethod
    def of(cls, integers: torch.Tensor) -> Track:
        """A fresh history."""
        zero = torch.zeros_like(integers)
        return cls(integers, zero, zero.clone(), integers.clone(), zero.bool(), zero.clone())

    def update(self, integers: torch.Tensor, threshold: float, momentum: float) -> None:
        """One step: a flip is a change against the direction of the last one."""
        moved = torch.sign(integers - self.before)
        flipped = moved * self.direction < 0
        self.flips.lerp_(flipped.to(self.flips), momentum)
        self.mean.lerp_(integers, momentum)
        fresh = (self.flips > threshold) & ~self.frozen
        self.held = torch.where(fresh, torch.round(self.mean), self.held)
        self.frozen |= fresh
        self.direction = torch.where(moved != 0, moved, self.direction)
        self.before = torch.where(self.frozen, self.held, integers)


class Freezer:
    """Watches a module's integer weights after every step and holds those that flip more often than `threshold`.

    A frozen weight is written back to the middle of its integer's interval, so that module, average, checkpoint and
    export all agree on it, also while scale and batch norm go on learning.
    """

    def __init__(self, module: QatModule, threshold: float, momentum: float) -> None:
        self.module, self.threshold, self.momentum = module, threshold, momentum
        self.tracks: dict[str, Track] = {}

    @torch.no_grad()
    def update(self) -> None:
        """To be called after each step of the optimizer."""
        for layer in self.module.layers:
            made = self.module.by_slot.get(layer.node.inputs[1])
            if made is None:
                continue
            scale = made.shaped(torch.as_tensor(made.export().scale, dtype=torch.float32), layer.parameter().ndim)
            integers = torch.round(made(layer.folded()[0]) / scale)
            track = self.tracks.setdefault(layer.node.name, Track.of(integers))
            track.update(integers, self.threshold, self.momentum)
            if bool(track.frozen.any()):
                _hold(layer, track, scale)

    @property
    def frozen(self) -> int:
        """Weights frozen so far."""
        return sum(int(track.frozen.sum()) for track in self.tracks.values())

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """All histories, by layer."""
        fields = Track.__slots__
        return {name: [getattr(track, field) for field in fields] for name, track in self.tracks.items()}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Histories as `state_dict` gave them."""
        self.tracks = {name: Track(*(t.clone() for t in tensors)) for name, tensors in state.items()}


def _hold(layer: Layer, track: Track, scale: torch.Tensor) -> None:
    """Write a layer's frozen weights back, the batch norm's scale taken off."""
    value = track.held * scale
    if layer.norm is not None:
        value = value / layer.spread(layer.affine()[0])
    back, parameter = TORCH_LAYOUTS[layer.node.op], getattr(*layer.weight)
    parameter.copy_(torch.where(back(track.frozen), back(value), parameter))
