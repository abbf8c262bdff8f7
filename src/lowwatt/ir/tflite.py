"""Graphs as .tflite, float or int8, for LiteRT (TensorFlow Lite) and what reads its files.

A quantized graph is int8 by LiteRT's 8-bit specification: activations with one scale and zero point a tensor, weights
with a scale for each output channel and no zero point, int32 biases in steps of the accumulator. Formats without a
zero point, powers of two among them, are that too. What TFLite has no int8 form for runs in float between DEQUANTIZE
and QUANTIZE, as the graph's own reference does. LiteRT's kernels round halves to even or away from zero, and the DPU
up, so that a value on a half may differ by a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.ir.tflite_emit import TfliteEmitter
from lowwatt.ir.tflite_file import pack
from lowwatt.ir.tflite_ops import TFLITE_RULES

_SHOWN = 3
"""Names that a note gives."""


def write(graph: Graph, path: str | Path) -> list[str]:
    """Write `path`; returns notes: layers in float, biases that int32 rounds, activations that round once more.

    Inputs and outputs have the graph's names, layouts (NHWC) and formats; unsigned ones are moved by 128. Raises
    ToolError for an operator without a form in TFLite, for activations of other than 8 bits, and where the package
    `tflite` is not installed.

    >>> # notes = tflite.write(quantized, "net.tflite")
    """
    content, notes = to_bytes(graph)
    write_bytes(path, content)
    return notes


def to_bytes(graph: Graph) -> tuple[bytes, list[str]]:
    """Content of the file, and the notes."""
    for tensor in graph.tensors.values():
        _check_format(graph, tensor)
    emitter = TfliteEmitter(graph)
    for name in graph.inputs:
        emitter.begin(name)
    for node in graph.nodes:
        rule = TFLITE_RULES.get(node.op)
        if rule is None:
            hint = did_you_mean(node.op, TFLITE_RULES) + "; end the graph before it"
            raise ToolError(f"{node.op} cannot be written to tflite", where=node.origin or node.name, hint=hint)
        rule(emitter, node)
    return pack(emitter.model()), _notes(emitter)


def _check_format(graph: Graph, tensor: Tensor) -> None:
    """Activations must fill 8 bits, for kernels saturate there."""
    quant = tensor.quant
    if quant is None or tensor.is_constant:
        return
    if quant.bits != 8 or quant.narrow or isinstance(quant.scale, tuple):
        raise ToolError(
            "tflite holds activations of 8 whole bits and one scale",
            where=f"{graph.name}, {tensor.name}",
            why=f"it has {quant.bits} bits, from {quant.qmin} to {quant.qmax}",
            hint="quantize the network with scheme litert",
        )


def _notes(emitter: TfliteEmitter) -> list[str]:
    return [f"{what}: {_listed(names)}" for what, names in emitter.notes.items()]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
