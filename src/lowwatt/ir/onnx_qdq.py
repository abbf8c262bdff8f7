"""Quantized graphs as ONNX with QuantizeLinear and DequantizeLinear, equal to the integer reference.

Every tensor goes through a Q/DQ pair, weights are int8 constants behind a DequantizeLinear, biases float32. The DPU
rounds halves up, QuantizeLinear to even: all values before a rounding are multiples of some 2**-grid, so half such a
step is added (to the bias of a layer, else by an Add): a half moves up and nothing else crosses. Scales are powers of
two, so float32 carries every number exactly as long as it fits 24 bits; where a value might not, the rounding is done
in double, and where a layer's sum might not, `write` says so. This holds for onnxruntime with graph optimisation off;
its optimiser replaces the pairs by kernels that round elsewhere and, on CPUs without VNNI, saturate pairs of products.

Formats other than fix points need nothing of that: the operators' float forms between the pairs, biases as int32 in
steps of the accumulator where the graph has them so, which is what lets onnxruntime's optimiser take integer kernels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.agreement import FLOAT_BITS, Agreement, compare
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.ir.interpreter import evaluate, run
from lowwatt.ir.onnx_emit import TO_NCHW, TO_NHWC
from lowwatt.ir.onnx_qdq_emit import QdqEmitter
from lowwatt.ir.onnx_qdq_ops import ALL_RULES
from lowwatt.ir.onnx_writer import DEFAULT_OPSET, emit
from lowwatt.types import Array

Runner = Callable[[Mapping[str, Array], Sequence[str]], Sequence[Array]]
"""Arrays by input name (NCHW float32) and names of outputs → the outputs' values."""


def write(graph: Graph, path: str | Path, opset: int = DEFAULT_OPSET) -> list[str]:
    """Write a quantized graph as QDQ; returns a note for each layer whose sum might not fit float32 exactly.

    Inputs and outputs are float32 real values, NCHW where of rank 4; float islands are ONNX's float operators.
    Raises ToolError for a tensor of more than 8 bits, and for an operator without an exact form.

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
    """onnxruntime against the integer reference, over all outputs: with graph optimisation off and on."""

    disabled: Agreement
    enabled: Agreement

    @property
    def elements(self) -> int:
        """Elements compared."""
        return self.disabled.elements

    @property
    def differ_disabled(self) -> int:
        """Elements that differ with graph optimisation off."""
        return self.disabled.differ

    @property
    def differ_enabled(self) -> int:
        """Elements that differ with graph optimisation on."""
        return self.enabled.differ


def validate_qdq(path: str | Path, graph: Graph, samples: Sequence[Array | Mapping[str, Array]]) -> QdqReport:
    """Run the file on `samples` (each an array for the one input, or arrays by input name; NHWC, real values or
    integers) in onnxruntime with graph optimisation off and on, and compare with the integer reference.
    """
    runners = [open_onnxruntime(path, optimise) for optimise in (False, True)]
    return QdqReport(*validate(graph, samples, runners))


def validate(
    graph: Graph, samples: Sequence[Array | Mapping[str, Array]], runners: Sequence[Runner]
) -> list[Agreement]:
    """Compare opened ONNX files of the graph with the integer reference, which runs once a sample."""
    found = [Agreement() for _ in runners]
    for sample in samples:
        inputs = sample if isinstance(sample, Mapping) else {graph.inputs[0]: sample}
        for image in _single(graph, inputs):
            wanted = run(graph, image)
            feeds = {name: to_onnx(graph.tensor(name), np.asarray(value)) for name, value in image.items()}
            found = [a + _compare(graph, r(feeds, graph.outputs), wanted) for a, r in zip(found, runners, strict=True)]
    return found


def validate_nodes(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> Agreement:
    """Each node alone: the reference's value of it from what onnxruntime computed for its operands, graph optimisation
    off. What tips in one place is not counted again in all that follows from it.
    """
    every = graph.copy()
    every.outputs = [node.name for node in graph.nodes]
    total = Agreement()
    with tempfile.TemporaryDirectory() as folder:
        write(every, Path(folder) / "every.onnx")
        runner = open_onnxruntime(Path(folder) / "every.onnx", optimise=False)
    for image in [image for sample in samples for image in _single(graph, sample)]:
        feeds = {name: to_onnx(graph.tensor(name), np.asarray(value)) for name, value in image.items()}
        found = runner(feeds, every.outputs)
        values = {name: from_onnx(graph.tensor(name), value) for name, value in feeds.items()}
        values |= {name: from_onnx(graph.tensor(name), value) for name, value in zip(every.outputs, found, strict=True)}
        wanted = {node.name: evaluate(graph, node, values) for node in graph.nodes}
        total += _compare(every, found, wanted)
    return total


def compare_files(graph: Graph, samples: Sequence[Mapping[str, Array]], first: Runner, second: Runner) -> Agreement:
    """The second file against the first, in steps of the graph's outputs."""
    total = Agreement()
    for image in [image for sample in samples for image in _single(graph, sample)]:
        feeds = {name: to_onnx(graph.tensor(name), np.asarray(value)) for name, value in image.items()}
        values = zip(graph.outputs, first(feeds, graph.outputs), strict=True)
        total += _compare(graph, second(feeds, graph.outputs), {n: from_onnx(graph.tensor(n), v) for n, v in values})
    return total


def open_onnxruntime(path: str | Path, optimise: bool) -> Runner:
    """The file in onnxruntime on the CPU, graph optimisation on or off; ToolError where it does not open."""
    session = _session(path, optimise)
    return lambda feeds, names: session.run(list(names), dict(feeds))


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


def _compare(graph: Graph, found: Sequence[Array], wanted: Mapping[str, Array]) -> Agreement:
    """Outputs of a file, in the graph's order, against the reference; float ones in steps of the coarsest format."""
    total = Agreement()
    bits = min([FLOAT_BITS, *(t.quant.bits for t in graph.tensors.values() if t.quant is not None)])
    for name, value in zip(graph.outputs, found, strict=True):
        ordered = value.transpose(TO_NHWC) if value.ndim == 4 else value
        total += compare(graph.tensor(name), ordered, wanted[name], bits)
    return total


def from_onnx(tensor: Tensor, value: Array) -> Array:
    """A value of an ONNX file as the reference has it: NHWC, integers where the tensor is quantized."""
    ordered = value.transpose(TO_NHWC) if value.ndim == 4 else value
    return ordered if tensor.quant is None else quantize(ordered, tensor.quant)


def to_onnx(tensor: Tensor, value: Array) -> Array:
    """A value, real or integers, as an ONNX file takes it: float32, NCHW where of rank 4."""
    if tensor.quant is not None and np.issubdtype(value.dtype, np.integer):
        value = tensor.quant.dequantize(value)
    return np.ascontiguousarray(value.transpose(TO_NCHW) if value.ndim == 4 else value, np.float32)
