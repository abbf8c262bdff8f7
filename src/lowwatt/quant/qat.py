"""Quantization-aware training: a captured network that runs fake-quantized on the user's own parameters.

`QatModule` maps images to outputs as the network does, so any training loop takes it. Its parameters are the user's
own, under their names and in torch's layouts; scales and thresholds stand beside them under `quantizers.`. Batch norms
are folded into the weights before these are quantized, as the exported graph has them (Krishnamoorthi, arXiv
1806.08342, 3.2.2): with running statistics where these are frozen, and where they live, with the fold undone behind
the rounding and the batch's own statistics behind the layer. `export` gives the integers of the network trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import quantize as quantize_values
from lowwatt.ir.graph import Graph
from lowwatt.ir.passes import prepare_for_quantization
from lowwatt.quant import vitis
from lowwatt.quant.calibration import biases, calibrate, collect
from lowwatt.quant.executor import Observer
from lowwatt.quant.plan import Params, Plan, make_plan
from lowwatt.quant.ptq import QuantReport, report_of
from lowwatt.quant.qat_executor import QatExecutor
from lowwatt.quant.qat_layers import Layer, find_layers
from lowwatt.quant.quantizers import LearnedQuantizer, make_quantizer
from lowwatt.quant.scheme import Scheme, load_scheme
from lowwatt.types import Array

PREFIX = "quantizers."
"""What the names of scales and thresholds start with in a state dict."""


@dataclass
class Prepared:
    """What quantization works on: the captured graph, the prepared one, its plan and calibrated formats."""

    captured: Graph
    floating: Graph
    plan: Plan
    params: Params
    images: int = 0

    def __deepcopy__(self, memo: Any) -> Prepared:
        return self  # nothing changes it; copies of a module share it


def prepare(
    captured: Graph, batches: Iterable[Array], scheme: str | Scheme = "vitis", calibration: str | None = None
) -> Prepared:
    """Plan and calibrate a captured graph, batch norms and all, on float32 NHWC batches (0…255)."""
    rules, seen = load_scheme(scheme), list(batches)
    floating = captured.copy()
    prepare_for_quantization(floating)
    plan = make_plan(floating, rules)
    params = calibrate(floating, plan, collect(floating, seen), calibration or rules.calibration)
    return Prepared(captured, floating, plan, params, sum(map(len, seen)))


@dataclass
class _Parts:
    """What a QatModule keeps out of reach of the user's names."""

    prepared: Prepared
    layers: list[Layer]
    fixed: dict[str, str]
    executor: QatExecutor
    by_slot: dict[str, LearnedQuantizer]
    points: tuple[int, ...] = ()
    live: bool = False
    observer: Observer | None = None


class QatModule(nn.Module):
    """A network fake-quantized, with gradients to its parameters and to its quantizers.

    `module` is the torch network that `prepared.captured` was captured from; its parts become this module's own.
    `method` names the quantizers (`quantizers.makers`), `weights` another one for weights; biases have thresholds.
    Layers whose constants do not follow from one parameter stay as they are: `fixed` says which and why.
    """

    def __init__(self, module: nn.Module, prepared: Prepared, method: str = "tqt", weights: str = "") -> None:
        super().__init__()
        layers, fixed = find_layers(module, prepared.captured, prepared.floating)
        _adopt(self, module)
        table = _quantizers(prepared, method, weights or method)
        self.quantizers = nn.ModuleDict({name.replace(".", "/"): made for name, made in table.items()})
        by_slot = {slot.name: table[slot.group] for slot in prepared.plan.slots.values() if slot.group in table}
        executor = QatExecutor(prepared.floating, prepared.plan, by_slot, layers)
        self._qat = _Parts(prepared, layers, fixed, executor, by_slot)

    @property
    def layers(self) -> list[Layer]:
        """Layers whose constants follow from the user's parameters."""
        return self._qat.layers

    @property
    def by_slot(self) -> dict[str, LearnedQuantizer]:
        """Quantizer of each tensor that carries integers."""
        return self._qat.by_slot

    @property
    def floating(self) -> Graph:
        """The prepared float graph, with its constants at the start."""
        return self._qat.prepared.floating

    @property
    def fixed(self) -> dict[str, str]:
        """Layers whose constants do not learn, and why."""
        return self._qat.fixed

    def set_live(self, live: bool) -> None:
        """Whether batch norms use and update the batch's own statistics in training mode."""
        self._qat.live = live

    def watch(self, observer: Observer | None) -> None:
        """From now on `observer` sees every tensor of the graph (NHWC), quantized, in every forward pass."""
        self._qat.observer = observer

    # -- running ------------------------------------------------------------------------------------------------

    def forward(self, images: torch.Tensor) -> Any:
        """NCHW images (0…255) → the network's outputs in its own layouts: a tuple, or the tensor where there is one."""
        found = self._run(images)
        return found if len(found) > 1 else found[0]

    def _run(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        graph, executor = self._qat.prepared.floating, self._qat.executor
        self._pin()
        executor.live = self._qat.live and self.training
        executor.load()
        try:
            outputs = executor({graph.inputs[0]: images.permute(0, 2, 3, 1)}, self._qat.observer)
        finally:
            executor.unload()
        layouts = graph.meta.get("source_layout", {})
        return tuple(v.permute(0, 3, 1, 2) if layouts.get(n) == "NCHW" else v for n, v in outputs.items())

    def _pin(self) -> None:
        """Fix points that the target's rules want, wherever one of the quantizers' own has changed."""
        plan = self._qat.prepared.plan
        if plan.scheme.legality != "dpu":
            return
        points = tuple(made.point() for made in self._qat.by_slot.values())
        if points == self._qat.points:
            return
        self._qat.points = points
        wanted = dict(zip(self._qat.by_slot, points, strict=True))
        for name, point in legal_points(self._qat.prepared, wanted).items():
            self._qat.by_slot[name].pinned = point

    # -- giving back --------------------------------------------------------------------------------------------

    def float_state(self) -> dict[str, torch.Tensor]:
        """State dict of the user's own network; loads into it with strict=True."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(PREFIX)}

    @torch.no_grad()
    def export(self) -> QuantReport:
        """The quantized graph of the network as it stands, with its float twin."""
        self._pin()
        prepared, plan = self._qat.prepared, self._qat.prepared.plan
        floating = prepared.floating.copy()
        params = {name: made.export() for name, made in self._qat.by_slot.items()}
        for layer in self._qat.layers:
            for name, value in zip(layer.node.inputs[1:], layer.folded(), strict=False):
                assert value is not None
                floating.set_constant(name, self._constant(name, value, params))
        params |= biases(floating, plan.without(params), params, plan.scheme.calibration)
        return report_of(floating, plan, params, prepared.images)

    def _constant(self, name: str, value: torch.Tensor, params: Params) -> Array:
        """Float constant whose integers are those of training, where float32 rounds another way than float64 too."""
        made = self._qat.by_slot.get(name)
        if made is None:
            return _array(value)
        real, grid = _array(made.constant(value)), _array(made(value))
        other = params[name].dequantize(quantize_values(real, params[name])) != grid
        return np.where(other, grid, real)


def legal_points(prepared: Prepared, points: dict[str, int]) -> dict[str, int]:
    """Fix points moved until the DPU's rules hold. A bias has no digits beyond half a step of the accumulator, where
    the DPU would cut them off (docs/dpu.md 3.2), so that fake quantization equals the integers.
    """
    plan, start = prepared.plan, prepared.params
    wanted = {n: replace(start[n], scale=2.0 ** -points[n]) if n in points else q for n, q in start.items()}
    legal = {name: quant.fix_point for name, quant in vitis.legalize(prepared.floating, plan, wanted).items()}
    for node in prepared.floating.nodes:
        if len(node.inputs) > 2 and (slot := plan.slots.get(node.inputs[2])) is not None and slot.kind == "bias":
            total = legal[node.inputs[0]] + legal[node.inputs[1]]
            legal[slot.name] = min(legal[slot.name], total + 1)
    return {name: legal[name] for name in points}


def _quantizers(prepared: Prepared, method: str, weights: str) -> dict[str, LearnedQuantizer]:
    """A quantizer for each sharing group of activations, each constant and each bias of fewer than 32 bits."""
    table: dict[str, LearnedQuantizer] = {}
    plan, inputs = prepared.plan, set(prepared.floating.inputs)
    frozen = {group for group, slots in plan.groups().items() if any(s.name in inputs for s in slots)}
    for slot in plan.slots.values():
        if slot.group in table or (slot.kind == "bias" and slot.format.bits >= 32):
            continue
        name = weights if slot.kind == "weights" else method
        if slot.kind in ("bias", "constant") or slot.group in frozen:
            name = "tqt" if slot.format.power_of_two else "lsq"
        table[slot.group] = make_quantizer(name, slot.format, prepared.params[slot.name], slot.kind)
        if slot.group in frozen:  # pixels fill their range
            table[slot.group].requires_grad_(False)
    return table


def _adopt(own: nn.Module, module: nn.Module) -> None:
    """Make a module's parts another's own, under the same names."""
    hidden = module._non_persistent_buffers_set
    try:
        for name, parameter in module.named_parameters(recurse=False):
            own.register_parameter(name, parameter)
        for name, buffer in module.named_buffers(recurse=False):
            own.register_buffer(name, buffer, persistent=name not in hidden)
        for name, child in module.named_children():
            own.add_module(name, child)
    except KeyError as error:
        raise ToolError("a part of the network has a name of QatModule's own", why=str(error)) from None


def _array(value: torch.Tensor) -> Array:
    return np.ascontiguousarray(value.detach().cpu().numpy())
