"""Quantized graphs as ncnn's .param and .bin, with the calibration table that ncnn's own tools take.

Layers with weights hold int8 and round what they read for themselves, halves away from zero, to ±127; all others are in
float. The table has two lines a layer, as ncnn2table writes them: steps a unit of its weights by channel, and of its
input; `ncnn2int8` takes it with the float network.
"""

from __future__ import annotations

from pathlib import Path

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.files import write_bytes, write_text
from lowwatt.ir.graph import Graph
from lowwatt.ir.ncnn_emit import NcnnEmitter
from lowwatt.ir.ncnn_ops import NCNN_RULES, is_int8


def write(graph: Graph, path: str | Path) -> list[Path]:
    """Write `path` (.param), and .bin and .table beside it; returns the three.

    Inputs and outputs are (channels, height, width) float32 under the graph's own names. Raises ToolError for an
    operator without an ncnn form, and where another reader than an int8 layer expects a rounded value.

    >>> # ncnn.write(quantized, "net.param")
    """
    emitter = _emitted(graph)
    param, binary, table = (Path(path).with_suffix(suffix) for suffix in (".param", ".bin", ".table"))
    write_text(param, emitter.param())
    write_bytes(binary, emitter.binary())
    write_text(
        table, "".join(f"{name} {' '.join(f'{v:.9g}' for v in steps)}\n" for name, steps in emitter.table.items())
    )
    return [param, binary, table]


def _emitted(graph: Graph) -> NcnnEmitter:
    emitter = NcnnEmitter(graph)
    _check_rounding(emitter)
    for name in graph.inputs:
        emitter.begin(name)
    for node in graph.nodes:
        if node.op == "identity":
            continue
        rule = NCNN_RULES.get(node.op)
        if rule is None:
            hint = did_you_mean(node.op, NCNN_RULES) + "; --format qdq takes it"
            raise ToolError(f"{node.op} cannot be written to ncnn", where=node.origin or node.name, hint=hint)
        rule(emitter, node)
    return emitter


def _check_rounding(e: NcnnEmitter) -> None:
    readers = e.graph.consumers()
    for tensor in e.graph.tensors.values():
        if tensor.quant is None or tensor.is_constant:
            continue
        plain = tensor.quant.bits == 8 and tensor.quant.signed and not tensor.quant.zero_point and tensor.quant.narrow
        if not plain or tensor.name in e.graph.outputs or not all(is_int8(e, n) for n in readers[tensor.name]):
            raise ToolError(
                "ncnn rounds only what an int8 layer reads, to ±127 steps",
                where=tensor.name,
                hint="quantize the network with scheme ncnn",
            )
