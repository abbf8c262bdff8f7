"""Plan: which tensors of a graph carry integers under a scheme, in which format, sharing with whom, by which rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import quantize as quantize_values
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.quant.scheme import NumberFormat, Scheme
from lowwatt.types import QuantParams

WEIGHTED = ("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear")
"""Operators with weights (second operand) and perhaps a bias (third)."""

FUSIBLE = ("none", "relu", "relu6", "leaky_relu")

Params = Mapping[str, QuantParams]
"""Number format with its numbers, by tensor: what calibration finds for a plan."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor that carries integers. `kind` is activations, weights or bias; `rule` a sentence for the user.

    Tensors of one `group` share format and scale. `axis` is where a weight's output channels are.
    """

    name: str
    kind: str
    format: NumberFormat
    rule: str
    group: str
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All slots of a prepared float graph, and why the other activations stay in float.

    `spared` are nodes that could run on integers and are to stay in float, because they lose too much.
    """

    scheme: Scheme
    slots: dict[str, Slot]
    floats: dict[str, str] = field(default_factory=dict)
    spared: frozenset[str] = frozenset()

    def groups(self) -> dict[str, list[Slot]]:
        """Slots of activations that share one scale, by the group's name; groups of one included."""
        table: dict[str, list[Slot]] = {}
        for slot in self.slots.values():
            if slot.kind == "activations":
                table.setdefault(slot.group, []).append(slot)
        return table

    def of_kind(self, kind: str) -> list[Slot]:
        """Slots of one kind, in the graph's order."""
        return [slot for slot in self.slots.values() if slot.kind == kind]

    def explain(self) -> list[str]:
        """One line a tensor: format, the rule that put it there; and what stays in float, why."""
        lines = [f"{slot.name}: {slot.format} ({slot.rule})" for slot in self.slots.values()]
        return lines + [f"{name}: float ({why})" for name, why in self.floats.items()]

    def without(self, names: Iterable[str]) -> Plan:
        """The plan with these tensors left in float."""
        gone = set(names)
        floats = {**self.floats, **dict.fromkeys(sorted(gone & set(self.slots)), "left in float by request")}
        return replace(self, slots={n: s for n, s in self.slots.items() if n not in gone}, floats=floats)


def make_plan(graph: Graph, scheme: Scheme, spared: Collection[str] = ()) -> Plan:
    """Apply a scheme's rules to a prepared float graph (folded, activations fused: `prepare_for_quantization`)."""
    unsupported(graph, scheme)
    planner = _Planner(graph, scheme, frozenset(spared))
    for node in graph.nodes:
        if node.name in planner.integer:
            planner.place(node)
    planner.ends()
    return planner.finish()


def unsupported(graph: Graph, scheme: Scheme) -> None:
    """Raise ToolError naming the first operator that can run neither on integers nor in float."""
    for node in graph.nodes:
        if spec(node.op).real is None:
            name = node.attrs["type"] if node.op == "custom" else node.op
            raise ToolError(f"{name} cannot run here", where=node.origin or node.name, hint="end the graph before it")
        if scheme.legality == "dpu" and node.attrs.get("activation", "none") not in FUSIBLE:
            raise ToolError(
                f"{node.attrs['activation']} has no INT8 form inside {node.op}",
                where=node.origin or node.name,
                hint="make it an operator of its own",
            )


def float_nodes(graph: Graph, scheme: Scheme) -> set[str]:
    """Nodes that stay in float: operators that the scheme does not run on integers and, where every tensor is to carry
    integers, the islands around them (docs/architecture.md, "Float islands"): operators without weights that read of
    an island and whose own values only islands read, or nobody does (decoding at the end of a network).
    """
    always = {node.name for node in graph.nodes if not _runs(node, scheme)}
    if scheme.operators != "integer":
        return always
    readers = graph.consumers()
    joining = [node for node in graph.nodes if node.op not in WEIGHTED and node.name not in always]
    while True:
        inside = always.union(node.name for node in joining)
        kept = [n for n in joining if inside.intersection(n.inputs) and all(r.name in inside for r in readers[n.name])]
        if len(kept) == len(joining):
            return inside
        joining = kept


def _runs(node: Node, scheme: Scheme) -> bool:
    return spec(node.op).integer is not None if scheme.operators == "integer" else node.op in scheme.operators


class _Planner:
    """Collects slots while the rules walk over the nodes."""

    def __init__(self, graph: Graph, scheme: Scheme, spared: frozenset[str]) -> None:
        self.graph, self.scheme, self.spared = graph, scheme, spared
        floating = float_nodes(graph, scheme) | spared
        self.integer = {node.name for node in graph.nodes if node.name not in floating}
        self.slots: dict[str, Slot] = {}
        self.parent: dict[str, str] = {}
        if scheme.tensors == "both":
            for name in graph.inputs:
                self._activation(name, "every input of the graph")

    def place(self, node: Node) -> None:
        """Slots of one node that runs on integers."""
        layer = node.op in WEIGHTED
        self._activation(node.inputs[0], f"read by {node.op} {node.name}")
        if layer:
            self._weights(node)
        for name in () if layer else node.inputs[1:]:
            self._activation(name, f"read by {node.op} {node.name}")
        if self.scheme.tensors == "both":
            self._activation(node.name, f"made by {node.op}")
            self._share(node)

    def _activation(self, name: str, rule: str) -> None:
        if name not in self.slots:
            constant = self.graph.tensor(name).is_constant
            kind = "constant" if constant else "activations"
            self.slots[name] = Slot(name, kind, self.scheme.activations, rule, name)
            self.parent[name] = name

    def _weights(self, node: Node) -> None:
        name = node.inputs[1]
        kind = "weights" if self.graph.tensor(name).is_constant else "activations"
        axis = 3 if node.op == "depthwise_conv2d" else 0
        if name not in self.slots:
            self.slots[name] = Slot(name, kind, self.scheme.weights, f"weights of {node.op}", name, axis)
            self.parent[name] = name
        if len(node.inputs) > 2 and self.scheme.bias is not None:
            bias = node.inputs[2]
            rule = f"bias of {node.op}" + (", in steps of its accumulator" if self.scheme.bias.bits == 32 else "")
            self.slots.setdefault(bias, Slot(bias, "bias", self.scheme.bias, rule, bias))

    def _share(self, node: Node) -> None:
        """Input and output of an operator that only copies have one scale."""
        copies = node.op in self.scheme.share and not (node.op == "resize" and node.attrs["mode"] != "nearest")
        for source in node.inputs if copies else ():
            if source in self.parent:
                self.parent[self._root(source)] = self._root(node.name)

    def _root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def ends(self) -> None:
        """First and last layers at the bits of `ends`."""
        bits = self.scheme.ends
        if bits is None:
            return
        for node in _end_layers(self.graph):
            for name in node.inputs[:2]:
                slot = self.slots[name]
                wide = slot.format.model_copy(update={"bits": bits})
                self.slots[name] = replace(slot, format=wide, rule=f"{slot.rule}; first or last layer: {bits} bits")

    def finish(self) -> Plan:
        """The plan, groups resolved."""
        slots = {n: replace(s, group=self._root(n)) if n in self.parent else s for n, s in self.slots.items()}
        why = {node.name: self._why_float(node) for node in self.graph.nodes if node.name not in slots}
        return Plan(self.scheme, slots, why, self.spared)

    def _why_float(self, node: Node) -> str:
        if node.name in self.spared:
            return "spared: on integers it would lose more than other layers"
        if node.name in self.integer:
            return f"nothing that runs on integers reads it, and {self.scheme.name} quantizes what is read"
        if _runs(node, self.scheme):
            return "only float operators around it"
        return f"{node.op} runs in float on {self.scheme.name}"


def _end_layers(graph: Graph) -> list[Node]:
    """Layers with no layer before them, and those with none behind them."""
    before: set[str] = set()
    after: set[str] = set()
    producers = graph.producers()
    for node in graph.nodes:
        sources = [producers[name] for name in node.inputs if name in producers]
        if any(s.op in WEIGHTED or s.name in before for s in sources):
            before.add(node.name)
    readers = graph.consumers()
    for node in reversed(graph.nodes):
        if any(r.op in WEIGHTED or r.name in after for r in readers[node.name]):
            after.add(node.name)
    layers = [node for node in graph.nodes if node.op in WEIGHTED]
    return [node for node in layers if node.name not in before or node.name not in after]


def apply(graph: Graph, params: Params) -> Graph:
    """Copy of a float graph whose tensors carry these formats; constants become integers."""
    result = graph.copy()
    for name, quant in params.items():
        tensor = result.tensor(name)
        tensor.quant, tensor.dtype = quant, quant.dtype
        if tensor.data is not None:
            tensor.data = quantize_values(tensor.data, quant)
    return result
