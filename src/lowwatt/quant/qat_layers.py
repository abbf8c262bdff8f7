"""Layers of a prepared graph in terms of the user's own module: whose parameters give its constants, folded how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lowwatt.ir.graph import Graph, Node
from lowwatt.quant.plan import WEIGHTED

FOLD_TOLERANCE = 1e-3
"""Largest difference, in units of the constant's largest value, at which a fold counts as understood."""


@dataclass(slots=True)
class Layer:
    """A layer with weights: node and constants of the prepared graph, and where the user's module keeps them.

    `weight` and `bias` are (module, attribute); `norm` is the batch norm that was folded in; `inputs` the last
    dimension of the graph's weights, a depthwise convolution's channels.
    """

    node: Node
    weight: tuple[nn.Module, str]
    bias: tuple[nn.Module, str] | None
    norm: nn.BatchNorm2d | nn.BatchNorm1d | None
    inputs: int

    def parameter(self) -> torch.Tensor:
        """The user's weights in the graph's layout, as a view where that is possible."""
        return self.laid(getattr(*self.weight))

    def laid(self, weight: torch.Tensor) -> torch.Tensor:
        """torch's weights in the graph's layout."""
        return LAYOUTS[self.node.op](weight, self.inputs)

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(scale, shift) by output channel that the batch norm's running statistics make of it."""
        assert self.norm is not None and self.norm.running_mean is not None and self.norm.running_var is not None
        scale = torch.rsqrt(self.norm.running_var + self.norm.eps)
        scale = scale if self.norm.weight is None else scale * self.norm.weight
        shift = -self.norm.running_mean * scale
        return scale, shift if self.norm.bias is None else shift + self.norm.bias

    def spread(self, scale: torch.Tensor) -> torch.Tensor:
        """One number an output channel, to broadcast against the weights."""
        if self.node.op == "depthwise_conv2d":  # channel c * mult + m; weights are [mult, kh, kw, C]
            return scale.reshape(self.inputs, -1).T[:, None, None, :]
        return scale.reshape(-1, *[1] * (getattr(*self.weight).ndim - 1))

    def gathered(self, sums: torch.Tensor) -> torch.Tensor:
        """One number an output channel from a tensor that `spread` shaped."""
        return sums[:, 0, 0, :].T.reshape(-1) if self.node.op == "depthwise_conv2d" else sums.reshape(-1)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weights and bias with the batch norm folded in, differentiable."""
        weight, bias = self.parameter(), None if self.bias is None else getattr(*self.bias)
        if self.norm is None:
            return weight, bias
        scale, shift = self.affine()
        return weight * self.spread(scale), shift if bias is None else shift + bias * scale


def _depthwise(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """[C * mult, 1, kh, kw] → [mult, kh, kw, C]."""
    return weight.reshape(channels, -1, *weight.shape[2:]).permute(1, 2, 3, 0)


LAYOUTS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "conv2d": lambda weight, inputs: weight.permute(0, 2, 3, 1),
    "depthwise_conv2d": _depthwise,
    "transposed_conv2d": lambda weight, inputs: weight.permute(1, 2, 3, 0).flip(1, 2),
    "linear": lambda weight, inputs: weight,
}
"""torch's weights → the graph's (docs/architecture.md, "Graph")."""


def _torch_depthwise(weight: torch.Tensor) -> torch.Tensor:
    return weight.permute(3, 0, 1, 2).reshape(-1, 1, *weight.shape[1:3])


TORCH_LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conv2d": lambda weight: weight.permute(0, 3, 1, 2),
    "depthwise_conv2d": _torch_depthwise,
    "transposed_conv2d": lambda weight: weight.flip(1, 2).permute(3, 0, 1, 2),
    "linear": lambda weight: weight,
}
"""The other way."""


def find_layers(module: nn.Module, captured: Graph, prepared: Graph) -> tuple[list[Layer], dict[str, str]]:
    """Layers of `prepared` whose constants follow from the module's parameters; and the others, with the reason.

    `captured` is the module's graph before any pass. Every find is proven: folding gives the prepared constants.
    """
    layers, fixed = [], {}
    for node in [node for node in prepared.nodes if node.op in WEIGHTED]:
        layer = _layer(module, captured, node)
        why = "its weights are not one parameter of the network" if layer is None else _differs(layer, prepared)
        if layer is None or why:
            fixed[node.name] = why
        else:
            layers.append(layer)
    return layers, fixed


def _layer(module: nn.Module, captured: Graph, node: Node) -> Layer | None:
    source = next((n for n in captured.nodes if n.op == node.op and n.inputs[1] == node.inputs[1]), None)
    weight = _place(module, node.inputs[1])
    if source is None or weight is None:
        return None
    readers = [n for n in captured.nodes if source.name in n.inputs]
    norm = None
    if len(readers) == 1 and readers[0].op == "batch_norm":
        norm = _norm(module, readers[0].inputs[1].rpartition(".")[0])
    bias = _place(module, source.inputs[2]) if len(source.inputs) > 2 else None
    return Layer(node, weight, bias, norm, captured.tensor(source.inputs[1]).shape[-1])


def _place(module: nn.Module, name: str) -> tuple[nn.Module, str] | None:
    """Module and attribute of a parameter by its full name."""
    path, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return None
    return (owner, leaf) if isinstance(getattr(owner, leaf, None), nn.Parameter) else None


def _norm(module: nn.Module, path: str) -> nn.BatchNorm2d | nn.BatchNorm1d | None:
    try:
        found = module.get_submodule(path)
    except AttributeError:
        return None
    return found if isinstance(found, (nn.BatchNorm2d, nn.BatchNorm1d)) else None


def _differs(layer: Layer, prepared: Graph) -> str:
    """Why folding the layer's parameters does not give the prepared constants; empty where it does."""
    with torch.no_grad():
        weight, bias = layer.folded()
    wanted = [prepared.tensor(name).data for name in layer.node.inputs[1:]]
    found = [weight, *([] if bias is None else [bias])]
    if len(wanted) != len(found):
        return "its bias is not a parameter of the network"
    for want, have in zip(wanted, found, strict=True):
        assert want is not None
        values = have.detach().cpu().numpy()
        if want.shape != values.shape or np.abs(want - values).max() > FOLD_TOLERANCE * max(np.abs(want).max(), 1e-9):
            return "more was folded into it than its batch norm"
    return ""
