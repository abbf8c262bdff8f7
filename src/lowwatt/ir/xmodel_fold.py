"""Folds the `fix` operators of an exported .xmodel into the tensors' own number formats.

After it, a graph that the vendor's quantizer exported is a quantized graph: constants hold integers, every operator's
tensor carries its fix point, and activations are fused. The rules are those of the vendor's compiler (docs/dpu.md
4.5, 4.6), and each is a function of its own.
"""

from __future__ import annotations

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import HARD_SIGMOID_SLOPE, dpu_average_factor, integer_type, quantize
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.types import QuantParams

_ACTIVATIONS = ("relu", "relu6", "leaky_relu")
_SELECTIONS = ("reshape", "transpose", "slice", "identity", "max_pool", "reduce_max")


def fold(graph: Graph, source: dict[str, str]) -> None:
    """Fold in place; `source` (tensor → operator of the file that holds the same values) is kept up to date."""
    _fold_constants(graph, source)
    _fold_inputs(graph, source)
    _fold_factors(graph)
    _fuse_activations(graph)
    _absorb_fixes(graph, source)
    _inherit_from_inputs(graph)
    _inherit_from_readers(graph)
    graph.prune()


def dpu_factor(node: Node) -> np.float32:
    """Factor by which the exported graph corrects an average or a hard-sigmoid to the DPU's (4.5)."""
    if node.op == "hard_sigmoid":
        return np.float32(6 * HARD_SIGMOID_SLOPE / 2**14)
    height, width = node.attrs["kernel"]
    factor, digits = dpu_average_factor((height, width))
    return np.float32(height * width * factor / 2**digits)


def _fold_constants(graph: Graph, source: dict[str, str]) -> None:
    """const → fix becomes a constant of integers, named after the const where it has one reader."""
    readers = graph.consumers()
    for node in [n for n in graph.nodes if n.op == "fix"]:
        tensor, out = graph.tensor(node.inputs[0]), graph.tensor(node.name)
        if tensor.data is None or tensor.quant is not None or out.quant is None:
            continue
        mode = node.attrs["round_mode"]
        data = quantize(tensor.data, out.quant, mode)
        graph.remove(node.name)
        if len(readers[tensor.name]) == 1:
            graph.replace_uses(node.name, tensor.name)
            source[tensor.name] = source.pop(node.name)
        else:
            graph.add_constant(node.name, data)
            tensor = graph.tensors[node.name]
        tensor.data, tensor.quant, tensor.dtype = data, out.quant, str(data.dtype)


def _fold_inputs(graph: Graph, source: dict[str, str]) -> None:
    """data → one fix becomes a quantized input; several fixes, or another rounding, stay nodes."""
    readers = graph.consumers()
    for name in graph.inputs:
        fixes = readers[name]
        if graph.tensor(name).quant is not None or len(fixes) != 1 or name in graph.outputs:
            continue
        if fixes[0].op == "fix" and fixes[0].attrs["round_mode"] == "DPU_ROUND":
            _absorb(graph, source, name, fixes[0])


def _absorb(graph: Graph, source: dict[str, str], name: str, fix: Node) -> None:
    """Give tensor `name` the number format of its `fix`, and drop that."""
    quant = graph.tensor(fix.name).quant
    graph.replace_uses(fix.name, name)
    graph.remove(fix.name)
    _set_quant(graph, name, quant)
    source[name] = source.pop(fix.name, fix.name)


def _set_quant(graph: Graph, name: str, quant: QuantParams | None) -> None:
    if quant is not None:
        tensor = graph.tensor(name)
        tensor.quant, tensor.dtype = quant, str(integer_type(quant))


def _fold_factors(graph: Graph) -> None:
    """avg_pool or hard_sigmoid, then mul by the DPU's factor: the integer rule holds that factor already."""
    producers, readers = graph.producers(), graph.consumers()
    for node in [n for n in graph.nodes if n.op == "mul" and len(n.inputs) == 2]:
        for first, second in (node.inputs, node.inputs[::-1]):
            before, factor = producers.get(first), graph.tensors[second].data
            if before is None or before.op not in ("avg_pool", "hard_sigmoid") or factor is None:
                continue
            if factor.size == 1 and len(readers[first]) == 1 and _is_float(graph, *node.inputs):
                _fold_factor(graph, node, before, float(factor.item()))
                break


def _is_float(graph: Graph, *names: str) -> bool:
    return all(graph.tensor(n).quant is None and n not in graph.outputs for n in names)


def _fold_factor(graph: Graph, node: Node, before: Node, factor: float) -> None:
    if not np.isclose(factor, dpu_factor(before), rtol=1e-6, atol=0):
        raise ToolError(
            f"mul: the factor behind {before.op} is not the DPU's",
            where=node.name,
            why=f"it is {factor:.8g}, not {dpu_factor(before):.8g}",
        )
    name = node.name
    graph.replace_uses(name, before.name)
    graph.remove(name)
    graph.rename(before.name, name)


def _fuse_activations(graph: Graph) -> None:
    """conv, linear, add, mul → relu, relu6, leaky_relu becomes one node of the first one's name."""
    producers, readers = graph.producers(), graph.consumers()
    for node in [n for n in graph.nodes if n.op in _ACTIVATIONS]:
        before = producers.get(node.inputs[0])
        if before is None or before.attrs.get("activation") != "none" or len(readers[before.name]) != 1:
            continue
        if not _is_float(graph, before.name) or graph.tensor(node.name).quant is not None:
            continue
        before.attrs["activation"] = node.op
        before.attrs["alpha"] = node.attrs.get("alpha", before.attrs["alpha"])
        graph.replace_uses(node.name, before.name)
        graph.remove(node.name)


def _absorb_fixes(graph: Graph, source: dict[str, str]) -> None:
    """operator → fix: the operator's one rounding is that fix (fix → fix stays: it rounds twice)."""
    producers, readers = graph.producers(), graph.consumers()
    for fix in [n for n in graph.nodes if n.op == "fix"]:
        before = producers.get(fix.inputs[0])
        if before is None or before.op == "fix" or not _is_float(graph, before.name):
            continue
        if len(readers[before.name]) == 1 and fix.attrs["round_mode"] == "DPU_ROUND":
            _absorb(graph, source, before.name, fix)


def _selects(node: Node) -> bool:
    """The operator only picks input values: the result stands on the input's grid."""
    return node.op in _SELECTIONS or (node.op == "resize" and node.attrs["mode"] == "nearest")


def _commutes(node: Node) -> bool:
    """The operator commutes with rounding and saturation: a fix behind it may be moved in front."""
    return _selects(node) or node.op in ("concat", "relu", "relu6")


def _inherit_from_inputs(graph: Graph) -> None:
    """A selection without a fix keeps its input's number format."""
    for node in graph.nodes:
        if _selects(node) and graph.tensor(node.name).quant is None:
            _set_quant(graph, node.name, graph.tensor(node.inputs[0]).quant)


def _inherit_from_readers(graph: Graph) -> None:
    """An operator without a fix that is read only by rounding-neutral ones takes their common number format."""
    readers = graph.consumers()
    for node in reversed(graph.nodes):
        if graph.tensor(node.name).quant is not None or node.name in graph.outputs or spec(node.op).integer is None:
            continue
        formats = {graph.tensor(r.name).quant for r in readers[node.name]}
        if len(formats) == 1 and all(_commutes(r) for r in readers[node.name]):
            _set_quant(graph, node.name, formats.pop())
