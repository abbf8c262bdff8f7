"""The pair for targets that place the rounding themselves: a float ONNX, and the ranges of its tensors as JSON.

TensorRT's implicit quantization and Qualcomm's converters take a plain float network and the range of each tensor that
is to be INT8. Weights and biases in the network are the real values of their integers, so that who rounds them to the
same scale gets the same integers. The JSON has the two forms that MQBench writes (its docs, "Deploy"):
`{"tensorrt": {"blob_range": {tensor: greatest}}}`, and SNPE's `{"activation_encodings", "param_encodings"}`. Here a
TensorRT range is 127 steps, as TensorRT's rule is scale = range / 127; MQBench writes 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_ops import RULES
from lowwatt.ir.onnx_writer import DEFAULT_OPSET, FloatEmitter, emit
from lowwatt.types import QuantParams

_LEVELS = 127
"""Steps between zero and the end of a TensorRT range."""


def float_twin(graph: Graph) -> Graph:
    """The graph without its number formats: constants are the real values that their integers stand for."""
    twin = graph.copy()
    for tensor in twin.tensors.values():
        if tensor.quant is not None and tensor.data is not None:
            tensor.data = tensor.quant.dequantize(tensor.data)
        tensor.quant, tensor.dtype = None, "float32"
    return twin


def write(graph: Graph, path: str | Path, opset: int = DEFAULT_OPSET) -> dict[str, Any]:
    """Write the float network of a quantized graph; returns the ranges, whose names are tensors of the file.

    >>> # ranges = write(quantized, "net_qmodel_deploy_model.onnx")
    """
    emitter = FloatEmitter(float_twin(graph), opset)
    write_bytes(path, emit(emitter, RULES))
    formats = {t.name: t.quant for t in graph.tensors.values() if t.quant is not None and not t.is_constant}
    named = {name: quant for tensor, quant in formats.items() for name in emitter.values(tensor)}
    if all(_symmetric(quant) for quant in named.values()):
        return {"tensorrt": {"blob_range": {name: _blob_range(name, quant) for name, quant in named.items()}}}
    return {
        "activation_encodings": {name: _encodings(quant) for name, quant in named.items()},
        "param_encodings": {name: _encodings(quant) for name, quant in _parameters(graph, emitter).items()},
    }


def _symmetric(quant: QuantParams) -> bool:
    return quant.signed and not quant.zero_point and not any(quant.zero_points)


def _blob_range(name: str, quant: QuantParams) -> float:
    if quant.bits != 8:
        raise ToolError(
            f"TensorRT's ranges are of 8 bits, this tensor has {quant.bits}", where=name, hint="export it as qdq"
        )
    return float(quant.step(0)) * _LEVELS


def _encodings(quant: QuantParams) -> list[dict[str, Any]]:
    """One entry a scale: `min`, `max` real values, `offset` the integer below zero point's, as Qualcomm counts."""
    scales = np.atleast_1d(quant.scale).tolist()
    zeros = quant.zero_points or (quant.zero_point,) * len(scales)
    return [
        {
            "bitwidth": quant.bits,
            "min": scale * (quant.qmin - zero),
            "max": scale * (quant.qmax - zero),
            "scale": scale,
            "offset": quant.qmin - zero,
            "is_symmetric": str(_symmetric(quant)),
        }
        for scale, zero in zip(scales, zeros, strict=True)
    ]


def _parameters(graph: Graph, emitter: FloatEmitter) -> dict[str, QuantParams]:
    """Formats of weights, by their names in the file; biases are left to the converter, which knows the accumulator."""
    constants = {t.name: t.quant for t in graph.constants() if t.quant is not None and t.quant.bits <= 16}
    return {name: quant for name, quant in constants.items() if name in emitter.constants}


# -- the ranges applied ----------------------------------------------------------------------------------------


def with_ranges(path: str | Path, ranges: Mapping[str, Any]) -> bytes:
    """The float network of `path` with each tensor of the JSON put through its Q/DQ pair, as ONNX bytes.

    What a target does with the pair, for the proof of the export: nothing but the two files goes in.
    """
    import onnx

    model = onnx.load(str(path))
    formats = _formats(ranges)
    body = model.graph
    inputs = {entry.name: f"{entry.name}.real" for entry in body.input if entry.name in formats}
    nodes = [node for name, new in inputs.items() for node in _pair(name, new, formats[name])]
    for node in body.node:
        for index, name in enumerate(node.input):
            node.input[index] = inputs.get(name, name)
        name = node.output[0]
        if name not in formats:
            nodes.append(node)
            continue
        node.output[0] = f"{name}.raw"
        nodes += [node, *_pair(node.output[0], name, formats[name])]
    missing = set(formats) - {name for node in nodes for name in (*node.input, *node.output)}
    if missing:
        raise ToolError("the ranges name a tensor that the network lacks", where=sorted(missing)[0])
    del body.node[:]
    body.node.extend(nodes)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _formats(ranges: Mapping[str, Any]) -> dict[str, tuple[float, int, str]]:
    """Scale, zero point and ONNX type of each tensor, from the JSON's numbers alone."""
    if "tensorrt" in ranges:
        return {name: (end / _LEVELS, 0, "int8") for name, end in ranges["tensorrt"]["blob_range"].items()}
    found = {}
    for name, (entry,) in ranges["activation_encodings"].items():
        if entry["bitwidth"] != 8:
            raise ToolError(f"a range of {entry['bitwidth']} bits cannot be proved here", where=name)
        scale = (entry["max"] - entry["min"]) / 255
        found[name] = (scale, round(-entry["min"] / scale), "uint8")
    return found


def _pair(source: str, name: str, format: tuple[float, int, str]) -> list[Any]:
    """Constants, QuantizeLinear and DequantizeLinear from one value to another."""
    from onnx import helper, numpy_helper

    scale, zero, kind = format
    values = {f"{name}.q.scale": np.float32(scale), f"{name}.q.zero": np.asarray(zero, kind)}
    constants = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(np.asarray(value), key))
        for key, value in values.items()
    ]
    quantize = helper.make_node("QuantizeLinear", [source, *values], [f"{name}.q"])
    return [*constants, quantize, helper.make_node("DequantizeLinear", [f"{name}.q", *values], [name])]
