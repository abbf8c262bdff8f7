"""Float graphs as ONNX files: own emitter, NCHW inside, opset 17.

Every input and output of rank 4 is NCHW float32, as ONNX users expect, under the graph's own name; labels, category
ids, pre-processing and head stand in the model's metadata as JSON (`lowwatt.labels`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.onnx_emit import Emitter
from lowwatt.ir.onnx_ops import RULES, real_activation

DEFAULT_OPSET = 17

AnyEmitter = TypeVar("AnyEmitter", bound=Emitter)


def write(graph: Graph, path: str | Path, opset: int = DEFAULT_OPSET) -> None:
    """Write a float graph; ToolError where it is quantized or holds an operator that ONNX lacks.

    >>> # write(graph, "net.onnx")
    """
    quantized = next((t.name for t in graph.tensors.values() if t.quant is not None), None)
    if quantized is not None:
        raise ToolError("the graph is quantized", where=quantized, hint="write it with its integers, as QDQ")
    write_bytes(path, emit(FloatEmitter(graph, opset), RULES))


def emit(emitter: AnyEmitter, rules: Mapping[str, Callable[[AnyEmitter, Node], None]]) -> bytes:
    """Bytes of the ONNX file of an emitter's graph."""
    for name in emitter.graph.inputs:
        emitter.begin(name)
    for node in emitter.graph.nodes:
        rule = rules.get(node.op)
        if rule is None:
            raise ToolError(f"{node.op} cannot be written to ONNX", where=node.name, hint=did_you_mean(node.op, rules))
        rule(emitter, node)
    emitter.end()
    data: bytes = emitter.model().SerializeToString(deterministic=True)
    return data


class FloatEmitter(Emitter):
    """Emitter of float graphs: fused activations become operators of their own."""

    def activated(self, node: Node, value: str) -> str:
        """The activation after the operator's value."""
        return real_activation(self, node, value)
