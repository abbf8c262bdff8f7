"""Weights and biases of one QAT step: batch norms folded in, on their grids, for all layers in few operators.

Layer by layer this would be some thirty operators on small tensors, each with a node of autograd's graph. Here all
scales of batch norms are one vector, all biases another, and all weights one node whose backward is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lowwatt.quant.learned import Grid, learn, through, toward_scale
from lowwatt.quant.qat_layers import TORCH_LAYOUTS, Layer
from lowwatt.quant.quantizers import GridQuantizer, LearnedQuantizer, LsqPlus

Norms = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Job:
    """One layer's part in `_FoldedWeights`: where its channels are in the vector of scales; None without batch norm."""

    layer: Layer
    grid: Grid
    factor: float
    channels: tuple[int, int] | None


class Folder:
    """Makes the constants of a list of layers."""

    def __init__(self, layers: Sequence[Layer], by_slot: dict[str, LearnedQuantizer]) -> None:
        self.layers, self.by_slot = layers, by_slot
        self.normed = [layer for layer in layers if layer.norm is not None]
        self.channels: dict[str, tuple[int, int]] = {}
        begin = 0
        for layer in self.normed:
            assert layer.norm is not None
            self.channels[layer.node.name] = (begin, begin + layer.norm.num_features)
            begin += layer.norm.num_features

    def __call__(self, live: bool) -> dict[str, torch.Tensor]:
        """Constants by name. `live`: as they are in front of a batch norm on the batch's own statistics."""
        scale, shift = self._affine() if self.normed else (None, None)
        scale = scale.detach() if live and scale is not None else scale
        return {**self._weights(scale, live), **self._biases(scale, shift, live)}

    def _affine(self) -> Norms:
        """(scale, shift) of all batch norms, one after the other, from their running statistics."""
        norms: list[Any] = [layer.norm for layer in self.normed]
        mean = torch.cat([norm.running_mean for norm in norms])
        eps = torch.repeat_interleave(mean.new_tensor([n.eps for n in norms]), self._sizes(mean.device))
        scale = torch.rsqrt(torch.cat([norm.running_var for norm in norms]) + eps) * _parts(norms, "weight", 1.0)
        return scale, _parts(norms, "bias", 0.0) - mean * scale

    def _sizes(self, device: Any) -> torch.Tensor:
        return torch.tensor([end - begin for begin, end in self.channels.values()], device=device)

    # -- weights --------------------------------------------------------------------------------------------------

    def _weights(self, scale: torch.Tensor | None, live: bool) -> dict[str, torch.Tensor]:
        jobs, weights, learned = [], [], []
        found: dict[str, torch.Tensor] = {}
        for layer in self.layers:
            made = self.by_slot.get(layer.node.inputs[1])
            channels = self.channels.get(layer.node.name)
            if not isinstance(made, GridQuantizer) or isinstance(made, LsqPlus):
                found[layer.node.inputs[1]] = _slow(layer, made, scale, channels, live)
                continue
            weight = getattr(*layer.weight)
            parameter, grid, factor = made.grid(weight)
            jobs.append(_Job(layer, grid, factor, channels))
            weights.append(weight)
            learned.append(parameter)
        if jobs:
            made_all = _FoldedWeights.apply(jobs, live, scale, *weights, *learned)
            found |= {job.layer.node.inputs[1]: value for job, value in zip(jobs, made_all, strict=True)}
        return found

    # -- biases ---------------------------------------------------------------------------------------------------

    def _biases(self, scale: torch.Tensor | None, shift: torch.Tensor | None, live: bool) -> dict[str, torch.Tensor]:
        values: dict[str, torch.Tensor] = {}
        for layer in self.layers:
            own = None if layer.bias is None else getattr(*layer.bias)
            channels = self.channels.get(layer.node.name)
            if channels is not None and not live:
                assert scale is not None and shift is not None
                part = shift[slice(*channels)]
                own = part if own is None else part + own * scale[slice(*channels)]
            if own is not None:
                values[layer.node.inputs[2]] = own
        rounded = [n for n in values if n in self.by_slot and not (live and self._in_norm(n))]
        return {**values, **_round_all(values, rounded, self.by_slot)}

    def _in_norm(self, bias: str) -> bool:
        return any(layer.node.inputs[2:] == [bias] for layer in self.normed)


def _round_all(
    values: dict[str, torch.Tensor], names: Sequence[str], by_slot: dict[str, LearnedQuantizer]
) -> dict[str, torch.Tensor]:
    """Biases on their grids, as one vector: they have one format, but a scale each."""
    if not names:
        return {}
    whole, sizes = torch.cat([values[name] for name in names]), [len(values[name]) for name in names]
    parts: list[Any] = [by_slot[name].grid(values[name]) for name in names]  # type: ignore[operator]
    counts = torch.tensor(sizes, device=whole.device)

    def spread(numbers: list[float]) -> torch.Tensor:
        return torch.repeat_interleave(whole.new_tensor(numbers), counts)

    learned = torch.repeat_interleave(torch.stack([part[0] for part in parts]), counts)
    grid: Grid = parts[0][1]
    steps = spread([part[1].scale for part in parts])
    grid = Grid(steps, grid.zero, grid.low, grid.high, grid.rounding, grid.margin)
    rounded = learn(whole, learned, grid, spread([part[2] for part in parts]))
    return dict(zip(names, torch.split(rounded, sizes), strict=True))


def _parts(norms: Sequence[Any], leaf: str, default: float) -> torch.Tensor:
    """A parameter of all batch norms, one after the other."""
    tensors = [getattr(norm, leaf) for norm in norms]
    absent = [torch.full_like(n.running_mean, default) if t is None else t for n, t in zip(norms, tensors, strict=True)]
    return torch.cat(absent)


def _slow(
    layer: Layer,
    made: LearnedQuantizer | None,
    scale: torch.Tensor | None,
    channels: tuple[int, int] | None,
    live: bool,
) -> torch.Tensor:
    """One layer's weights on autograd's own operators."""
    weight = layer.parameter()
    if channels is None:
        return weight if made is None else made(weight)
    assert scale is not None
    factor = layer.spread(scale[slice(*channels)])
    value: torch.Tensor = weight * factor if made is None else made(weight * factor)
    return value / factor if live else value


class _FoldedWeights(torch.autograd.Function):
    """For each job the weights, times their channels' scale, on the grid, in the graph's layout; live: over the scale.

    With f = a·w the folded weights, y on the grid and g the gradient where f is not clamped: dw = a·g,
    da = Σ g·w by channel, and ds as in `lowwatt.quant.learned`.
    """

    @staticmethod
    def forward(ctx: Any, jobs: list[_Job], live: bool, scale: torch.Tensor | None, *tensors: torch.Tensor) -> Any:
        ctx.jobs, ctx.live = jobs, live
        kept, results = [], []
        for job, parameter in zip(jobs, tensors, strict=False):
            weight, factor = job.layer.laid(parameter), _factor(job, scale)
            folded = weight if factor is None else weight * factor
            value = job.grid.snap(folded)
            results.append(value / factor if live and factor is not None else value)
            kept += [folded, value]
        ctx.save_for_backward(scale, *tensors[: len(jobs)], *kept)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        scale, *saved = ctx.saved_tensors
        count = len(ctx.jobs)
        of_scale = torch.zeros_like(scale) if ctx.needs_input_grad[2] else None
        of_weights: list[torch.Tensor] = []
        of_learned: list[torch.Tensor] = []
        for index, (job, grad) in enumerate(zip(ctx.jobs, grads, strict=True)):
            folded, value = saved[count + 2 * index], saved[count + 2 * index + 1]
            factor = _factor(job, scale)
            grad = grad / factor if ctx.live and factor is not None else grad
            inner = through(grad, folded, job.grid)
            toward = toward_scale(grad, inner, folded, value, job.grid.scale, job.factor)
            of_learned.append(toward.reshape(-1) if toward.ndim else toward)
            if factor is not None and of_scale is not None:
                sums = (inner * job.layer.laid(saved[index])).sum_to_size(factor.shape)
                of_scale[slice(*job.channels)] = job.layer.gathered(sums)
            inner = inner if factor is None else inner * factor
            of_weights.append(TORCH_LAYOUTS[job.layer.node.op](inner))
        return None, None, of_scale, *of_weights, *of_learned


def _factor(job: _Job, scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if job.channels is None or scale is None else job.layer.spread(scale[slice(*job.channels)])
