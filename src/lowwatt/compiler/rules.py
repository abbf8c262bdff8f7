"""Which operators the accelerator takes: limits for each operator and instruction set, and a verdict on each node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lowwatt.compiler import limits as at
from lowwatt.compiler.crossings import settle
from lowwatt.compiler.limits import Limit
from lowwatt.compiler.subject import Subject
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

Limits = tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a node runs; for the host why, and what to change."""

    node: str
    op: str
    where: Literal["dpu", "host"]
    reasons: tuple[str, ...] = ()
    remedy: str = ""
    origin: str = ""


_MAP: Limits = (at.feature_map,)
_CONV: Limits = (*_MAP, at.kernel_16, at.stride_8, at.conv_pads, at.weights_fit, at.input_channels, at.output_channels)
_POINTWISE: Limits = (at.fused_activation,)

_ISA0: Mapping[str, Limits] = {
    "conv2d": (*_CONV, at.no_groups, at.conv_activation_isa0),
    "depthwise_conv2d": (*_MAP, at.depthwise_present, at.kernel_16, at.stride_8, at.conv_pads, at.simple_activation),
    "transposed_conv2d": (*_MAP, at.kernel_16, at.stride_16, at.weights_fit, at.conv_activation_isa0),
    "linear": (at.kernel_16, at.weights_fit, at.input_channels, at.output_channels, at.conv_activation_isa0),
    "max_pool": (*_MAP, at.pool_window),
    "avg_pool": (*_MAP, at.average_present, at.average_kernel, at.pool_window),
    "reduce_mean": (*_MAP, at.average_present, at.spatial_axes, at.average_kernel),
    "add": (*_MAP, at.same_shapes, at.add_activation),
    "mul": (*_MAP, at.mul_present, at.same_shapes, at.add_activation),
    "relu": _POINTWISE,
    "relu6": _POINTWISE,
    "leaky_relu": (at.leaky_slope, *_POINTWISE),
    "batch_norm": _MAP,
    "concat": (at.channel_axis,),
    "slice": (*_MAP, at.channel_slice),
    "pad": (*_MAP, at.border),
    "resize": (*_MAP, at.resize_scale, at.resize_alignment),
    "reshape": (),
    "fix": (),
    "identity": (),
}
_ISA1: Mapping[str, Limits] = {
    **_ISA0,
    "conv2d": (*_CONV, at.no_groups, at.conv_activation_isa1),
    "depthwise_conv2d": (*_MAP, at.depthwise_present, at.alu_window, at.conv_activation_isa1),
    "transposed_conv2d": (*_MAP, at.kernel_16, at.stride_16, at.weights_fit, at.conv_activation_isa1),
    "max_pool": (*_MAP, at.alu_window),
    "avg_pool": (*_MAP, at.average_present, at.alu_window),
    "reduce_mean": (*_MAP, at.average_present, at.spatial_axes, at.alu_window),
    "mul": (*_MAP, at.same_shapes, at.add_activation),
    "relu": _MAP,
    "relu6": _MAP,
    "leaky_relu": (*_MAP, at.leaky_slope),
    "hard_sigmoid": _MAP,
    "hard_swish": _MAP,
}
RULES: Mapping[int, Mapping[str, Limits]] = {0: _ISA0, 1: _ISA1}
"""Limits by instruction set and operator; an operator that is not there runs on the host."""

MOVES = ("reshape", "identity", "fix", "pad", "slice")
"""Operators that only move or relabel values."""
FOLLOWERS = ("concat", *MOVES)
"""Operators that cost the accelerator nothing: they run on the side that saves a crossing."""
_FOLLOWS = "It only moves values; on the host it saves a crossing between host and accelerator"

_ACTIVATION = {0: "train with ReLU (on ISA1 machines hard-swish works too)", 1: "train with ReLU or hard-swish"}
_BY_REWRITE = "lowwatt check --rewrite does that, and the values stay the same"
_FOCUS = (
    f"Focus: merge it with the convolution behind it ({_BY_REWRITE}), "
    "or train with a stem of three 3x3 convolutions instead (stem: convs)"
)
_SHUFFLE = f"pick channels by a convolution: {_BY_REWRITE}"
_DECODE = "end the graph at the raw outputs; lowwatt decodes them after the network"


def check(graph: Graph, target: Target) -> list[Verdict]:
    """Verdict on every node, in order; works on float and quantized graphs alike.

    >>> from lowwatt.targets import load_target
    >>> g = Graph()
    >>> _ = g.add_input("x", (1, 8, 8, 3))
    >>> _ = g.add("silu", ["x"], "y")
    >>> check(g, load_target("kv260"))[0].where
    'host'
    """
    own = _own_verdicts(graph, target)
    where: dict[str, str] = {v.node: v.where for v in own}
    sides = settle(graph, where, {v.node for v in own if v.where == "dpu" and v.op in FOLLOWERS})
    return [v if sides[v.node] == v.where else replace(v, where="host", reasons=(_FOLLOWS,)) for v in own]


def refused(graph: Graph, target: Target) -> list[str]:
    """Nodes that break a limit of the machine, in order; others may still follow them to the host."""
    return [one.node for one in _own_verdicts(graph, target) if one.where == "host"]


def _own_verdicts(graph: Graph, target: Target) -> list[Verdict]:
    producers = graph.producers()
    return [verdict(Subject(node, graph, producers, target)) for node in graph.nodes]


def group(verdicts: Iterable[Verdict]) -> list[tuple[Verdict, list[str]]]:
    """Verdicts for the host with the names of all nodes that share operator, reasons and remedy, in order.

    A SiLU network has a hundred nodes of one kind; a reader wants to hear of it once.
    """
    found: dict[tuple[str, tuple[str, ...], str], tuple[Verdict, list[str]]] = {}
    for one in verdicts:
        if one.where == "host":
            found.setdefault((one.op, one.reasons, one.remedy), (one, []))[1].append(one.node)
    return list(found.values())


def verdict(subject: Subject) -> Verdict:
    """Verdict on one node."""
    node = subject.node
    limits = limits_of(node.op, subject.target.isa)
    if at.not_on_machine not in limits:
        limits = (*limits, at.integers)
    reasons = tuple(_broken(subject, limit) for limit in limits if limit(subject))
    if not reasons:
        return Verdict(node.name, node.op, "dpu", origin=node.origin)
    return Verdict(node.name, node.op, "host", reasons, remedy(subject), node.origin)


def limits_of(op: str, isa: int) -> Limits:
    """Limits of an operator on an instruction set."""
    return RULES[isa].get(op, (at.not_on_machine,))


def _broken(subject: Subject, limit: Limit) -> str:
    return f"{(limit.__doc__ or '').strip().rstrip('.')} (here: {limit(subject)})"


def remedy(subject: Subject) -> str:
    """What to change so that the node can run on the accelerator; "" where nothing simple is known."""
    node, isa = subject.node, subject.target.isa
    if node.op == "max_pool":
        return _pool_remedy(subject)
    if node.op == "slice":
        return _slice_remedy(node)
    if node.op in ("silu", "hard_swish", "hard_sigmoid", "tanh") or (node.op == "mul" and _is_silu(subject)):
        return _ACTIVATION[isa]
    if node.op == "sigmoid" and any(_is_silu_of(n.inputs, node.inputs[0], node.name) for n in subject.graph.nodes):
        return _ACTIVATION[isa]
    return _REMEDIES.get(node.op, "")


def _is_silu(subject: Subject) -> bool:
    """True for the multiplication in x * sigmoid(x)."""
    makers = [subject.producer(i) for i in range(len(subject.node.inputs))]
    return any(m is not None and m.op == "sigmoid" and m.inputs[0] in subject.node.inputs for m in makers)


def _is_silu_of(inputs: list[str], x: str, gate: str) -> bool:
    return len(inputs) == 2 and set(inputs) == {x, gate}


def _slice_remedy(node: Node) -> str:
    strides = node.attrs["strides"]
    if len(strides) == 4 and max(strides[1:3]) > 1:
        return _FOCUS
    return _SHUFFLE if strides[-1] > 1 else "cut channels alone, or cut before the network"


def _pool_remedy(subject: Subject) -> str:
    window = subject.window
    side = window.kernel[0]
    if window.stride == (1, 1) and window.kernel == (side, side) and side > 5 and side % 4 == 1:
        count = (side - 1) // 4
        chain = f"{count} chained 5x5 pools of stride 1 give the same values"
        return f"{chain} (lowwatt check --rewrite puts them in); or dilated 3x3 convolutions (train with spp: dilated)"
    return "use kernels and strides of at most 8"


_REMEDIES = {
    "sigmoid": _DECODE,
    "exp": _DECODE,
    "softmax": _DECODE,
    "div": _DECODE,
    "sub": _DECODE,
    "pow": _DECODE,
    "mul": "multiply at training time, or choose a machine with elementwise multiplication",
    "leaky_relu": "use the slope 26/256, after a convolution",
    "relu": "put the activation right after a convolution or addition",
    "relu6": "put the activation right after a convolution or addition",
    "clip": "use ReLU6",
    "conv2d": "stay within the stated limits: split the layer, or use group 1 or depthwise (lowwatt check --rewrite "
    "splits large kernels and fills groups up with zeros)",
    "linear": "use global average pooling before it, or fewer inputs",
    "avg_pool": "use a square kernel of 2 to 8 (lowwatt check --rewrite splits larger ones)",
    "reduce_mean": "pool in steps with square kernels of at most 8",
    "resize": "use nearest with a whole factor",
    "transpose": "keep maps in one layout; end the graph before reordering",
    "concat": "join channels only",
    "pad": "pad with a constant",
    "batch_norm": "fold it into the convolution before it",
}
