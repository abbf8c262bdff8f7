"""A segment of the accelerator in a compiled .xmodel: a DPU subgraph with one leaf a layer (docs/dpu.md 4.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from math import prod
from typing import Any

from lowwatt.compiler.dram import CONSTANTS, Region
from lowwatt.compiler.lowering.legalize import legalize
from lowwatt.compiler.segment import Segment
from lowwatt.compiler.workload import Work, workload
from lowwatt.compiler.xmodel_constants import ConstantLoads
from lowwatt.compiler.xmodel_file import ON_CHIP, Attrs, Form, XModelFile, constant_at, in_dram, subgraph, work
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Node
from lowwatt.ir.xmodel_fix import arguments, emit_fix, pointwise
from lowwatt.ir.xmodel_proto import Unsigned, encode
from lowwatt.targets import Target
from lowwatt.targets.names import core_name
from lowwatt.types import Array

_LEAST_BYTES = 16
"""Bytes of a register that holds nothing: no genuine file has an empty one."""

_RUNNERS = {"ref": "libvart-cpu-runner.so", "sim": "libvart-sim-runner.so", "run": "libvart-dpu-runner.so"}
_ROLES = ("CONST", "WORKSPACE", "INTERFACE", "INTERFACE")


LAYER_OP, LAYER_ORIGIN, LAYER_MACS, LAYER_CODE = (f"lowwatt_{key}" for key in ("op", "origin", "macs", "instructions"))
"""Attributes of ours on a layer's subgraph; the vendor's reader keeps what it does not know."""


@dataclass(slots=True)
class _Leaf:
    """A leaf subgraph in the making: the layer that it is (None: it costs nothing), its operators and their work."""

    layer: int | None
    ops: list[str] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)


class Accelerator:
    """Writes one segment; `value` maps tensors to the operators that hold their integers outside, and is added to."""

    def __init__(self, file: XModelFile, segment: Segment, target: Target, value: dict[str, str]) -> None:
        self._file, self._segment, self._target, self._outside = file, segment, target, value
        self._graph = legalize(segment.graph)
        self._layer_of = {name: index for index, layer in enumerate(segment.layers) for name in layer.nodes}
        self._loads = ConstantLoads(segment, target)
        self._value: dict[str, str] = {}
        self._leaves: dict[str, _Leaf] = {}

    def write(self, root: Any) -> Work:
        """Add the subgraph; returns its work."""
        if unknown := self._layer_of.keys() - {node.name for node in self._graph.nodes}:
            raise ToolError(
                "the program is of another version of the compiler", where=min(unknown), hint="compile it again"
            )
        uploads = [self._upload(name) for name in self._graph.inputs]
        for node in self._graph.nodes:
            self._node(node)
        downloads = [self._download(name) for name in self._graph.outputs]
        leaves = list(self._leaves)
        total = add(figures for leaf in self._leaves.values() for figures in leaf.work)
        part = subgraph(root, leaves[0], {**self._registers(), **self._machine(), **work(total)})
        encode(part.subg_attr["children_topological_sort"], [f"subgraph_{name}" for name in leaves])
        for name in uploads:
            subgraph(part, name, {"skip_code_gen": True, **work((0, 0))}, [name])
        for name, leaf in self._leaves.items():
            subgraph(part, name, self._about(leaf), leaf.ops)
        for name in downloads:
            subgraph(part, name, work((0, 0)), [name])
        return total

    # -- operators ----------------------------------------------------------------------------------------------

    def _upload(self, name: str) -> str:
        tensor = self._graph.tensor(name)
        form = Form.of(tensor, in_dram(self._region(name), tensor.shape))
        args = {"input": [self._outside[name]]}
        self._value[name] = self._file.op(f"{name}_upload_0", "upload", form, args, {"device": "DPU"})
        return self._value[name]

    def _download(self, name: str) -> str:
        form, args = Form.of(self._graph.tensor(name)), {"input": [self._value[name]]}
        op = self._file.op(f"{name}_download_0", "download", form, args, {"device": "DPU"})
        self._outside[name] = op
        return op

    def _node(self, node: Node) -> None:
        """Write a node into its leaf: its layer's, or one of its own where it costs nothing.

        A leaf moves to the end with each node, so that leaves stand in an order that the data allow.
        """
        index = self._layer_of.get(node.name)
        name = node.name if index is None else self._segment.layers[index].name
        leaf = self._leaves.pop(name, None) or _Leaf(index)
        self._leaves[name] = leaf
        leaf.work.append(workload(node, self._graph, self._target))
        if node.op == "linear":
            self._linear(node, leaf.ops)
            return
        emitted = emit_fix(self._graph, node)
        if emitted is None:
            raise ToolError(f"a compiled .xmodel has no integer operator for {node.op}", where=node.name)
        kind, attrs = emitted
        args = self._args(node, leaf.ops)
        op = self._op(node.name, kind, self._form(node.name), args, {**attrs, **self._counted(node)})
        leaf.ops.append(op)
        self._value[node.name] = op

    def _op(self, name: str, kind: str, form: Form, args: Mapping[str, Sequence[str]], attrs: Attrs) -> str:
        return self._file.op(name, kind, form, args, {**attrs, "device": "DPU"})

    def _counted(self, node: Node) -> Attrs:
        """The workload, which genuine files state for what computes, and whether LOAD packs its input's columns."""
        figures = workload(node, self._graph, self._target)
        packed = (
            {"channel_augmentation": 1} if self._loads.packs(self._layer_of.get(node.name), node, self._graph) else {}
        )
        return {**packed, **work(figures)} if figures[0] else {}

    def _args(self, node: Node, ops: list[str]) -> dict[str, list[str]]:
        return arguments(node, [self._operand(node, index, ops) for index in range(len(node.inputs))])

    def _operand(self, node: Node, index: int, ops: list[str]) -> str:
        """The operator that holds an input; a constant is written for each reader anew, as the CPU runner demands."""
        tensor = self._graph.tensor(node.inputs[index])
        if tensor.data is None:
            return self._value[tensor.name]
        ops.append(self._constant(node, index, tensor.data))
        return ops[-1]

    def _constant(self, node: Node, index: int, data: Array) -> str:
        tensor = self._graph.tensor(node.inputs[index])
        region = self._segment.dram.regions.get(tensor.name)
        address = self._loads.address(self._layer_of.get(node.name), node, index) if region is None else region.address
        return self._file.constant(tensor.name, data, tensor.quant, "DPU", constant_at(CONSTANTS, address))

    def _linear(self, node: Node, ops: list[str]) -> None:
        """A convolution over a map of one row, between two reshapes: -fix operators have no other form of it."""
        source, out = self._graph.tensor(node.inputs[0]), self._graph.tensor(node.name)
        weights = self._graph.tensor(node.inputs[1])
        assert weights.data is not None  # a quantized graph's
        pixels, place = prod(source.shape[:-1]), self._form(node.name).place
        flat, wide = (1, 1, pixels, source.shape[-1]), (1, 1, pixels, out.shape[-1])
        before = self._value[node.inputs[0]]
        row = self._reshape(f"{node.name}.row", before, Form(flat, source.quant, self._form(node.inputs[0]).place))
        kernel = self._constant(node, 1, weights.data.reshape(-1, 1, 1, flat[-1]))
        bias = [self._operand(node, index, ops) for index in range(2, len(node.inputs))]
        args = {"input": [row], "weights": [kernel], **({"bias": bias} if bias else {})}
        attrs = {**pointwise(node, out, flat[-1], wide[-1]), **self._counted(node)}
        conv = self._op(f"{node.name}.conv", "conv2d-fix", Form(wide, out.quant, place), args, attrs)
        self._value[node.name] = self._reshape(node.name, conv, Form(out.shape, out.quant, place))
        ops.extend([row, kernel, conv, self._value[node.name]])

    def _reshape(self, name: str, source: str, form: Form) -> str:
        return self._op(name, "reshape-fix", form, {"input": [source]}, {"shape": list(form.shape)})

    # -- places -------------------------------------------------------------------------------------------------

    def _form(self, name: str) -> Form:
        tensor, index = self._graph.tensor(name), self._layer_of.get(name)
        if index is not None and self._segment.layers[index].name != name:
            return Form.of(tensor, ON_CHIP)
        return Form.of(tensor, in_dram(self._region(name), tensor.shape))

    def _region(self, name: str) -> Region:
        """A map's own place, or that of the first that it consists of: it is another name for the same bytes."""
        if name in self._segment.dram.regions:
            return self._segment.dram.regions[name]
        return self._region(self._graph.node(name).inputs[0])

    # -- attributes ---------------------------------------------------------------------------------------------

    def _machine(self) -> Attrs:
        """The core, the program and who runs it."""
        return {
            "device": "DPU",
            "dpu_name": core_name(self._target.core),
            "dpu_fingerprint": Unsigned(self._target.fingerprint),
            "mc_code": self._segment.code,
            "mc_code_preload": b"",
            "if_prefetch": False,
            "debug_mode": "null",
            "runner": _RUNNERS,
        }

    def _registers(self) -> Attrs:
        """What each register of DRAM is for and holds."""
        dram, names = self._segment.dram, [f"REG_{k}" for k in range(len(_ROLES))]
        kinds = ["CONST" if role == "CONST" else "DATA" for role in _ROLES]
        sizes = [max(_LEAST_BYTES, dram.sizes.get(k, 0)) for k in range(len(_ROLES))]
        held = dram.constants.ljust(sizes[CONSTANTS], b"\0")
        return {
            "reg_id_to_context_type": dict(zip(names, kinds, strict=True)),
            "reg_id_to_context_type_v2": dict(zip(names, _ROLES, strict=True)),
            "reg_id_to_hw_segment": {
                n: "W0" if kind == "CONST" else "D0" for n, kind in zip(names, kinds, strict=True)
            },
            "reg_id_to_size": dict(zip(names, sizes, strict=True)),
            "reg_id_to_parameter_value": {names[CONSTANTS]: held},
        }

    def _about(self, leaf: _Leaf) -> Attrs:
        """Its work and, for a layer, notes of ours for `lowwatt disasm`: origin and instructions (first, last, …)."""
        if leaf.layer is None:
            return {"skip_code_gen": True, **work((0, 0))}
        layer = self._segment.layers[leaf.layer]
        notes: Attrs = {LAYER_OP: layer.op, LAYER_ORIGIN: layer.origin, LAYER_MACS: Unsigned(layer.macs)}
        runs = [number for first, last in self._runs[leaf.layer] for number in (first, last)]
        return {**work(add(leaf.work)), **notes, **({LAYER_CODE: runs} if runs else {})}

    @cached_property
    def _runs(self) -> list[list[tuple[int, int]]]:
        """For each layer its instructions that follow one another: first, and the one behind the last."""
        found: list[list[tuple[int, int]]] = [[] for _ in self._segment.layers]
        start = 0
        for owner, group in groupby(self._segment.owners):
            stop = start + len(list(group))
            found[owner].append((start, stop))
            start = stop
        return found


def add(works: Iterable[Work]) -> Work:
    """Sum of works."""
    figures = list(works)
    return sum(one for one, _ in figures), sum(two for _, two in figures)
