"""Quantized graphs as ONNX with QuantizeLinear and DequantizeLinear, equal to the integer reference bit for bit.

Every tensor goes through a Q/DQ pair, weights are int8 constants behind a DequantizeLinear, biases float32. The DPU
rounds halves up, QuantizeLinear to even: all values before a rounding are multiples of some 2**-grid, so half such a
step is added (to the bias of a layer, else by an Add): a half moves up and nothing else crosses. Scales are powers of
two, so float32 carries every number exactly as long as it fits 24 bits; where a value might not, the rounding is done
in double, and where a layer's sum might not, `write` says so. This holds for onnxruntime with graph optimisation off;
its optimiser replaces the pairs by kernels that round elsewhere and, on CPUs without VNNI, saturate pairs of products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.ir.interpreter import run
from lowwatt.ir.onnx_emit import TO_NCHW, TO_NHWC
from lowwatt.ir.onnx_qdq_emit import QdqEmitter
from lowwatt.ir.onnx_qdq_ops import ALL_RULES
from lowwatt.ir.onnx_writer import DEFAULT_OPSET, emit
from lowwatt.types import Array

_LAST_BITS = 2.0**-8
"""Share of a step by which float32 sums in another order may differ."""


def write(graph: Graph, path: str | Path, opset: int = DEFAULT_OPSET) -> list[str]:
    """Write a quantized graph as QDQ; returns a note for each layer whose sum might not fit float32 exactly.

    Inputs and outputs are float32 real values, NCHW where of rank 4; float islands are ONNX's float operators.
    Raises ToolError for a tensor of other than 8 bits, and for an operator without an exact form.

    >>> # notes = write(quantized, "net_qdq.onnx"); validate_qdq("net_qdq.onnx", quantized, images)
    """
    if not graph.has_integers:
        raise ToolError("the graph is not quantized", where=graph.name, hint="run `lowwatt quantize` first")
    emitter = QdqEmitter(graph, opset)
    write_bytes(path, emit(emitter, ALL_RULES))
    return emitter.notes


# -- validation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QdqReport:
    """onnxruntime against the integer reference on real inputs, counted over all outputs.

    `differ_disabled` and `differ_enabled`: elements that differ with graph optimisation off and on;
    `max_abs_enabled`: the largest difference with it on, in integer steps of its tensor.
    """

    elements: int
    differ_disabled: int
    differ_enabled: int
    max_abs_enabled: int


def validate_qdq(path: str | Path, graph: Graph, samples: Sequence[Array | Mapping[str, Array]]) -> QdqReport:
    """Run the file on `samples` (each an array for the one input, or arrays by input name; NHWC, real values or
    integers) in onnxruntime with graph optimisation off and on, and compare with the integer reference.
    """
    sessions = [_session(path, optimise) for optimise in (False, True)]
    elements, differ, greatest = 0, [0, 0], 0
    for sample in samples:
        inputs = sample if isinstance(sample, Mapping) else {graph.inputs[0]: sample}
        for image in _single(graph, inputs):
            wanted = run(graph, image)
            elements += sum(w.size for w in wanted.values())
            for index, session in enumerate(sessions):
                off = _differences(graph, session, image, wanted)
                differ[index] += int(np.count_nonzero(off))
                greatest = max(greatest, int(off.max(initial=0))) if index else greatest
    return QdqReport(elements, differ[0], differ[1], greatest)


def _session(path: str | Path, optimise: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        raise ToolError("onnxruntime cannot open the model", where=str(path), why=str(error).strip()[:300]) from None


def _single(graph: Graph, inputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The samples of a batch, each of the batch size that the graph is made for."""
    if not graph.tensor(graph.inputs[0]).shape:
        return [dict(inputs)]
    size = graph.tensor(graph.inputs[0]).shape[0]
    count = max(1, len(next(iter(inputs.values()))) // size)
    return [{name: value[i * size : (i + 1) * size] for name, value in inputs.items()} for i in range(count)]


def _differences(graph: Graph, session: Any, inputs: Mapping[str, Array], wanted: Mapping[str, Array]) -> Array:
    """|onnxruntime - reference| in steps of each output, over all outputs, flat."""
    feeds = {name: _real(graph.tensor(name), np.asarray(value)) for name, value in inputs.items()}
    found = session.run(graph.outputs, feeds)
    return np.concatenate([
        _steps_apart(graph.tensor(name), value, wanted[name]).reshape(-1)
        for name, value in zip(graph.outputs, found, strict=True)
    ])  # fmt: skip


def _real(tensor: Tensor, value: Array) -> Array:
    if tensor.quant is not None and np.issubdtype(value.dtype, np.integer):
        value = tensor.quant.dequantize(value)
    return np.ascontiguousarray(value.transpose(TO_NCHW) if value.ndim == 4 else value, np.float32)


def _steps_apart(tensor: Tensor, value: Array, wanted: Array) -> Array:
    """Difference in integer steps; a float output has steps of 1/127 of its range, and none where the last bits err."""
    ordered = (value.transpose(TO_NHWC) if value.ndim == 4 else value).astype(np.float64)
    if tensor.quant is not None:
        return np.abs(ordered / tensor.quant.scale - wanted)
    apart = np.abs(ordered - wanted) * 127 / max(float(np.abs(wanted).max(initial=0)), 1e-30)
    return np.where(apart < _LAST_BITS, 0.0, apart)
