"""Rewrites of a Graph, in place: each pass takes the graph and says whether it changed anything.

`FLOAT_PASSES` is the visible list that a captured or imported graph goes through; they keep its numbers (up
to rounding of float32) and the names of inputs and outputs. `prepare_for_quantization` fuses activations too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.ir.fold import fold_constants
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.moves import cancel_transposes, sink_transposes, straighten_moves
from lowwatt.ir.ops.activation import LEAKY_SLOPE
from lowwatt.ir.patterns import fuse_hard, fuse_silu
from lowwatt.types import Array

Pass = Callable[[Graph], bool]

_WITH_BIAS = ("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear")
_FUSES = (*_WITH_BIAS, "add", "mul")
_MAX_ROUNDS = 100

FUSED_ACTIVATIONS = ("relu", "relu6", "leaky_relu")
"""Activations that can be part of the operator before them."""


def run_passes(graph: Graph, passes: Sequence[Pass]) -> bool:
    """Run the passes in order, again and again until none changes the graph; True where any did.

    The graph is verified after each change; an error names the pass.
    """
    changed = False
    for _ in range(_MAX_ROUNDS):
        round_changed = False
        for rewrite in passes:
            if rewrite(graph):
                round_changed = True
                _verify_after(graph, rewrite)
        if not round_changed:
            return changed
        changed = True
    raise ToolError("the passes do not come to an end", where=graph.name, hint="please report this graph")


def prepare_for_quantization(graph: Graph, activations: Collection[str] = FUSED_ACTIVATIONS) -> bool:
    """Float passes, then these activations fused into the operators before them."""

    def fuse(graph: Graph) -> bool:
        return fuse_activations(graph, activations)

    return run_passes(graph, [*FLOAT_PASSES, fuse])


def _verify_after(graph: Graph, rewrite: Pass) -> None:
    try:
        graph.verify()
    except ToolError as error:
        name = getattr(rewrite, "__name__", str(rewrite))
        raise ToolError(f"pass {name} broke the graph: {error.what}", where=error.where, why=error.why) from None


# -- the passes -------------------------------------------------------------------------------------------


def remove_identities(graph: Graph) -> bool:
    """Remove operators that do nothing: identity, empty pads, whole slices, concats of one."""
    changed = False
    for node in [n for n in graph.nodes if _is_identity(graph, n)]:
        changed |= bypass(graph, node)
    return changed


def fold_batch_norm(graph: Graph) -> bool:
    """Fold a batch norm into the convolution or linear layer before it, computed in float64."""
    return _fold_each(graph, "batch_norm", _batch_norm_affine)


def fold_affine(graph: Graph) -> bool:
    """Fold a sum or product with one constant a channel into the convolution or linear layer before it."""
    added = _fold_each(graph, "add", _added_affine)
    return _fold_each(graph, "mul", _multiplied_affine) or added


def lower_batch_norm(graph: Graph) -> bool:
    """A batch norm with no layer before it becomes a 1x1 depthwise convolution."""
    changed = False
    for node in [n for n in graph.nodes if n.op == "batch_norm" and len(graph.tensor(n.name).shape) == 4]:
        affine = _batch_norm_affine(graph, node, node.inputs[0])
        if affine is None or _layer_before(graph, node) is not None:
            continue
        scale, shift = affine
        weights = _new_constant(graph, f"{node.name}.weight", scale.reshape(1, 1, 1, -1))
        bias = _new_constant(graph, f"{node.name}.bias", shift)
        node.become("depthwise_conv2d", [node.inputs[0], weights, bias])
        changed = True
    graph.prune()
    return changed


def fold_pads(graph: Graph) -> bool:
    """Fold zero padding of height and width into convolutions and average pools (never max pools)."""
    changed = False
    producers = graph.producers()
    for node in graph.nodes:
        pad = producers.get(node.inputs[0]) if node.inputs else None
        if pad is not None and pad.op == "pad" and _takes_pad(node) and (edges := _zero_edges(pad)) is not None:
            total = tuple(a + b for a, b in zip(node.attrs["pad"], edges, strict=True))
            if node.op == "avg_pool":
                if not _fits_window(node, total):
                    continue
                node.attrs["count_include_pad"] = True
            node.attrs["pad"] = total
            node.inputs[0] = pad.inputs[0]
            changed = True
    graph.prune()
    return changed


def global_mean_to_pool(graph: Graph) -> bool:
    """A mean over height and width becomes an average pool over the whole map (what the accelerator has)."""
    changed = False
    for node in [n for n in graph.nodes if n.op == "reduce_mean"]:
        shape = graph.tensor(node.inputs[0]).shape
        if len(shape) != 4 or sorted(a % 4 for a in node.attrs["axes"]) != [1, 2]:
            continue
        attrs = {"kernel": shape[1:3], "stride": shape[1:3]}
        if node.attrs["keepdims"]:
            node.become("avg_pool", node.inputs, **attrs)
        else:
            pooled = graph.insert(node, "avg_pool", node.inputs[:1], f"{node.name}.pool", **attrs)
            node.become("reshape", [pooled], shape=graph.tensor(node.name).shape)
        changed = True
    return changed


def remove_dead(graph: Graph) -> bool:
    """Remove nodes and constants that no output needs."""
    return graph.prune() > 0


def fuse_activations(graph: Graph, activations: Collection[str] = FUSED_ACTIVATIONS) -> bool:
    """Fuse relu, relu6 or leaky relu into the one operator before it; the pair keeps that operator's name.

    Where the activation was an output of the graph, the pair takes the output's name instead. Leaky relu
    fuses only with the accelerator's slope, 26/256. Hard sigmoid and hard swish stay operators of their own:
    they need an 8-bit value in between, whose fix point calibration chooses.
    """
    changed = False
    for node in list(graph.nodes):
        before = graph.producers().get(node.inputs[0]) if node.op in activations and _is_fusable(node) else None
        if before is None or before.op not in _FUSES or before.attrs["activation"] != "none":
            continue
        if _sole_reader(graph, before.name) is not node:
            continue
        before.attrs["activation"] = node.op
        before.attrs.update({"alpha": node.attrs["alpha"]} if node.op == "leaky_relu" else {})
        bypass(graph, node)
        changed = True
    return changed


FLOAT_PASSES: list[Pass] = [
    fold_constants,
    remove_identities,
    fuse_hard,
    fuse_silu,
    fold_batch_norm,
    fold_affine,
    fold_pads,
    sink_transposes,
    straighten_moves,
    cancel_transposes,
    lower_batch_norm,
    global_mean_to_pool,
    remove_dead,
]
"""What every captured or imported graph goes through."""


# -- parts of passes --------------------------------------------------------------------------------------


def bypass(graph: Graph, node: Node) -> bool:
    """Let the readers of `node` read its first input instead; False where an output's name forbids it."""
    source = node.inputs[0]
    if node.name in graph.outputs:
        if source not in graph.producers() or source in graph.outputs:
            return False
        name = node.name
        graph.replace_uses(name, source)
        graph.remove(name)
        graph.rename(source, name)
        return True
    graph.replace_uses(node.name, source)
    graph.remove(node.name)
    return True


def _is_identity(graph: Graph, node: Node) -> bool:
    if not node.inputs:
        return False
    same_shape = graph.tensor(node.inputs[0]).shape == graph.tensor(node.name).shape
    if node.op in ("identity", "reshape", "pad"):
        return same_shape
    if node.op == "slice":
        return same_shape and all(s > 0 for s in node.attrs["strides"])
    if node.op == "transpose":
        return list(node.attrs["order"]) == list(range(len(node.attrs["order"])))
    return node.op == "concat" and len(node.inputs) == 1


def _sole_reader(graph: Graph, name: str) -> Node | None:
    """The one node that reads a tensor; None where it is an output or has other readers."""
    readers = [n for n in graph.nodes if name in n.inputs]
    return readers[0] if len(readers) == 1 and name not in graph.outputs else None


def _layer_before(graph: Graph, node: Node) -> Node | None:
    """The convolution or linear layer that only `node` reads, as its first or second input."""
    producers = graph.producers()
    for name in node.inputs[:2]:
        layer = producers.get(name)
        if layer is not None and layer.op in _WITH_BIAS and layer.attrs["activation"] == "none":
            foldable = all(graph.tensor(i).is_constant for i in layer.inputs[1:])
            if foldable and _sole_reader(graph, name) is node:
                return layer
    return None


Affine = tuple[NDArray[np.float64], NDArray[np.float64]]


def _fold_each(graph: Graph, op: str, affine_of: Callable[[Graph, Node, str], Affine | None]) -> bool:
    changed = False
    for node in [n for n in graph.nodes if n.op == op]:
        layer = _layer_before(graph, node)
        affine = affine_of(graph, node, layer.name) if layer is not None else None
        if layer is not None and affine is not None:
            _fold_affine_into(graph, layer, *affine)
            node.inputs = [layer.name]
            if "activation" in node.attrs:
                layer.attrs.update(activation=node.attrs["activation"], alpha=node.attrs["alpha"])
            bypass(graph, node)
            changed = True
    graph.prune()
    return changed


def _batch_norm_affine(graph: Graph, node: Node, x: str) -> Affine | None:
    data = [graph.tensor(i).data for i in node.inputs[1:]]
    if any(d is None for d in data):
        return None
    gamma, beta, mean, variance = (np.asarray(d, np.float64) for d in data)
    scale = gamma / np.sqrt(variance + node.attrs["eps"])
    return scale, beta - mean * scale


def _added_affine(graph: Graph, node: Node, x: str) -> Affine | None:
    shift = _channel_constant(graph, node, x)
    return None if shift is None else (np.ones_like(shift), shift)


def _multiplied_affine(graph: Graph, node: Node, x: str) -> Affine | None:
    scale = _channel_constant(graph, node, x)
    return None if scale is None else (scale, np.zeros_like(scale))


def _channel_constant(graph: Graph, node: Node, x: str) -> NDArray[np.float64] | None:
    """The other operand as one number a channel, where it is a constant along all other axes."""
    if len(node.inputs) != 2:
        return None
    other = graph.tensor(node.inputs[1] if node.inputs[0] == x else node.inputs[0])
    channels = graph.tensor(x).shape[-1]
    if other.data is None or len(other.shape) > len(graph.tensor(x).shape):
        return None
    if other.data.size not in (1, channels) or (other.data.size > 1 and other.shape[-1] != channels):
        return None
    return np.broadcast_to(other.data.astype(np.float64).reshape(-1), (channels,))


def _fold_affine_into(graph: Graph, layer: Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    """Let `layer` give scale * y + shift (one number an output channel) instead of y."""
    weights = np.asarray(graph.tensor(layer.inputs[1]).data, np.float64)
    bias = np.asarray(graph.tensor(layer.inputs[2]).data, np.float64) if len(layer.inputs) == 3 else 0.0
    if layer.op == "depthwise_conv2d":  # output channel c * mult + m; weights are [mult, kh, kw, C]
        factor = scale.reshape(weights.shape[3], weights.shape[0]).T[:, None, None, :]
    else:
        factor = scale.reshape(-1, *[1] * (weights.ndim - 1))
    stem = layer.inputs[1].removesuffix(".weight")
    layer.inputs = [
        layer.inputs[0],
        _new_constant(graph, layer.inputs[1], weights * factor, replaces=layer.inputs[1]),
        _new_constant(
            graph,
            f"{stem}.bias",
            bias * scale + shift,
            replaces=layer.inputs[2] if len(layer.inputs) == 3 else "",
        ),
    ]


def _new_constant(graph: Graph, name: str, data: Array, replaces: str = "") -> str:
    """Add a float32 constant called `name`, or change it in place where its only reader gets the new one."""
    values = np.ascontiguousarray(data, np.float32)
    if replaces and sum(replaces in n.inputs for n in graph.nodes) <= 1 and replaces not in graph.outputs:
        graph.tensors[replaces].data = values
        return replaces
    wanted, number = name, 0
    while wanted in graph.tensors:
        number += 1
        wanted = f"{name}_{number}"
    return graph.add_constant(wanted, values)


def _takes_pad(node: Node) -> bool:
    if node.op == "avg_pool":
        counted = node.attrs["count_include_pad"] or not any(node.attrs["pad"])
        return bool(counted and not node.attrs["ceil_mode"])
    return node.op in ("conv2d", "depthwise_conv2d")


def _fits_window(node: Node, pad: tuple[int, ...]) -> bool:
    (kh, kw), (top, bottom, left, right) = node.attrs["kernel"], pad
    return bool(max(top, bottom) < kh and max(left, right) < kw)


def _zero_edges(pad: Node) -> tuple[int, ...] | None:
    """(top, bottom, left, right) of a zero padding of height and width alone."""
    pads = tuple(pad.attrs["pads"])
    if pad.attrs["mode"] != "constant" or pad.attrs["value"] != 0 or len(pads) != 8:
        return None
    edges = pads[2:6]
    return edges if not any(pads[:2] + pads[6:]) and min(edges) >= 0 else None


def _is_fusable(node: Node) -> bool:
    if node.op == "leaky_relu":
        return bool(abs(node.attrs["alpha"] - LEAKY_SLOPE) < 1e-6)
    return node.op in FUSED_ACTIVATIONS
