"""Runs a prepared graph fake-quantized on the user's own parameters: what `QatModule` computes with."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops.activation import torch_fused
from lowwatt.quant.executor import Observer, TorchExecutor
from lowwatt.quant.plan import Plan
from lowwatt.quant.qat_fold import Folder
from lowwatt.quant.qat_layers import Layer
from lowwatt.quant.quantizers import LearnedQuantizer

COPIES = ("concat", "max_pool", "slice", "reshape", "transpose", "identity", "reduce_max")
"""Operators whose output is on the grid of their inputs where these share it (and `resize` to the nearest)."""


class QatExecutor(TorchExecutor):
    """Runs the prepared graph on constants given anew each time; ReLU and rounding are one step."""

    def __init__(self, graph: Graph, plan: Plan, by_slot: dict[str, LearnedQuantizer], layers: list[Layer]) -> None:
        learned = {name for layer in layers for name in layer.node.inputs[1:]}
        on_grid = {node.name for node in graph.nodes if _keeps_grid(node, plan)}
        super().__init__(graph, {n: made for n, made in by_slot.items() if n not in learned | on_grid})
        self.fixed = {slot.name for slot in plan.slots.values() if slot.format.power_of_two}
        fused = {"conv2d", "depthwise_conv2d", "transposed_conv2d", "linear", "add", "mul"}
        rectified = [n for n in graph.nodes if n.op in fused and n.attrs["activation"] == "relu"]
        self.rectified = {node.name for node in rectified if node.name in self.quantizers}
        self.plain = {n.name: replace(n, attrs={**n.attrs, "activation": "none"}) for n in graph.nodes if n.op in fused}
        self.norms = {layer.node.name: layer.norm for layer in layers if layer.norm is not None}
        self.before_norm = {layer.node.name: _before_norm(layer) for layer in layers}
        self.folder = Folder(layers, by_slot)
        self.learned, self.live = learned, False

    def load(self) -> None:
        """Weights and biases of this step: folded, quantized."""
        self.constants.update(self.folder(self.live))

    def unload(self) -> None:
        """Let go of the step's tensors."""
        self.constants = {name: value for name, value in self.constants.items() if name not in self.learned}

    def value(self, node: Node, values: MutableMapping[str, torch.Tensor]) -> torch.Tensor:
        """What a node computes: without the activation where its quantizer does that too, and with a live norm."""
        norm = self.norms.get(node.name) if self.live else None
        if norm is None and node.name not in self.rectified:
            return super().value(node, values)
        value = super().value((self.plain if norm is None else self.before_norm)[node.name], values)
        if norm is not None:
            value = _normalised(norm, value)
            value = value if node.name in self.rectified else torch_fused(torch, node, value)
        return value

    def _finish(self, name: str, value: torch.Tensor, observe: Observer | None) -> torch.Tensor:
        made: Any = self.quantizers.get(name)
        if made is not None:
            value = made(value, name in self.rectified)
        if observe is not None:
            observe(name, value)
        return value


def _before_norm(layer: Layer) -> Node:
    """The layer as the user has it: no activation, a bias only where there is one beside the batch norm."""
    inputs = layer.node.inputs[: 2 if layer.bias is None else 3]
    return replace(layer.node, inputs=inputs, attrs={**layer.node.attrs, "activation": "none"})


def _normalised(norm: nn.BatchNorm2d | nn.BatchNorm1d, value: torch.Tensor) -> torch.Tensor:
    """Batch norm over the last axis with the batch's statistics, which the running ones follow."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    moved = value.movedim(-1, 1)
    running = norm.running_mean, norm.running_var
    found = nn.functional.batch_norm(moved, *running, norm.weight, norm.bias, True, momentum, norm.eps)
    return found.movedim(1, -1)


def _keeps_grid(node: Node, plan: Plan) -> bool:
    """Whether a node only copies values that are on its own grid already."""
    copies = node.op in COPIES or (node.op == "resize" and node.attrs["mode"] == "nearest")
    slots = [plan.slots.get(name) for name in (node.name, *node.inputs)]
    return copies and all(slot is not None and slots[0] is not None and slot.group == slots[0].group for slot in slots)
