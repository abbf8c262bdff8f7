"""Emitter of .tflite: what all rules share: tensors by the graph's names, constants, steps between number formats.

TFLite has maps as we have them (NHWC). A tensor of the graph is int8 in the file where its format is 8 bits wide, else
float32; unsigned formats are moved by 128. `convert` brings a value to another format: QUANTIZE, DEQUANTIZE, or in
place for constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import integer_type, quantize
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.tflite_file import FileModel, FileOperator, FileTensor
from lowwatt.types import Array, QuantParams, Shape

UNSIGNED = 128
"""What is taken from unsigned integers and their zero point, so that they are signed."""

OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "MIRROR_PAD": "MirrorPadOptions",
}
"""Operator → its table of options, where it has one that kernels ask for."""

_INT8_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "SUB": 2, "LEAKY_RELU": 1}
_INT8_VERSIONS |= {"QUANTIZE": 1, "HARD_SWISH": 1, "RESHAPE": 1}
"""Version from which an operator has int8, where that is not 2 (LiteRT's op_version.cc)."""


class TfliteEmitter:
    """Collects tensors and operators of one graph; rules call `get`, `real`, `op` and `finish`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[FileTensor] = []
        self.operators: list[FileOperator] = []
        self.notes: dict[str, list[str]] = {}
        """What a user should know, and the nodes of which it is true."""
        self._values: dict[str, int] = {}
        self._copies: dict[tuple[int, QuantParams | None], int] = {}

    # -- the graph's tensors ----------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the graph."""
        return self.graph.tensor(name).shape

    def quant(self, name: str) -> QuantParams | None:
        """Format of a tensor of the graph as the file has it; None for float."""
        return stored(self.graph.tensor(name).quant)

    def begin(self, name: str) -> None:
        """An input of the graph."""
        self._values[name] = self._new(name, self.shape(name), self.quant(name))

    def get(self, name: str) -> int:
        """A tensor of the graph, in its own format."""
        if name not in self._values:
            tensor = self.graph.tensor(name)
            if tensor.data is None:
                raise ToolError("the graph is not in order", where=name)
            self._values[name] = self.constant(name, _stored_data(tensor.data, tensor.quant), self.quant(name))
        return self._values[name]

    def real(self, name: str) -> int:
        """A tensor of the graph in float."""
        return self.convert(self.get(name), None)

    def at(self, name: str, quant: QuantParams | None) -> int:
        """A tensor of the graph in some format of the file's."""
        return self.convert(self.get(name), quant)

    def integers(self, node: Node) -> bool:
        """Whether all that a node reads, and what it makes, is int8 in the file."""
        return all(self.quant(name) is not None for name in (node.name, *node.inputs))

    # -- making values ----------------------------------------------------------------------------------------

    def constant(self, name: str, data: Array, quant: QuantParams | None = None) -> int:
        """A constant: integers where a format is given, else float32, or int32 where the data are."""
        kind = np.dtype(np.int32) if data.dtype == np.int32 else np.dtype(np.float32)
        return self._new(name, data.shape, quant, data.astype(kind if quant is None else integer_type(quant)))

    def ints(self, name: str, values: Sequence[int]) -> int:
        """A constant of whole numbers, as operators take sizes and axes."""
        return self.constant(name, np.asarray(values, np.int32))

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Shape,
        quant: QuantParams | None,
        name: str,
        fields: Mapping[str, int | float | bool] | None = None,
        version: int = 0,
    ) -> int:
        """Add an operator; its output. `version` 0 is that of the operator's first float or int8 form."""
        output = self._new(name, shape, quant)
        eight = any(self.tensors[index].dtype == "int8" for index in (*inputs, output) if index >= 0)
        version = max(version, _INT8_VERSIONS.get(kind, 2) if eight else 1)
        given = (OPTIONS.get(kind, ""), dict(fields or {}))
        self.operators.append(FileOperator(kind, version, tuple(inputs), output, *given))
        return output

    def convert(self, index: int, quant: QuantParams | None) -> int:
        """The same value in another format."""
        tensor = self.tensors[index]
        if tensor.quant == quant:
            return index
        if (index, quant) not in self._copies:
            self._copies[index, quant] = self._converted(index, tensor, quant)
        return self._copies[index, quant]

    def _converted(self, index: int, tensor: FileTensor, quant: QuantParams | None) -> int:
        if tensor.data is None:
            kind = "DEQUANTIZE" if quant is None else "QUANTIZE"
            return self.op(kind, [index], tensor.shape, quant, f"{tensor.name}.{kind.lower()}d")
        real = tensor.data if tensor.quant is None else tensor.quant.dequantize(tensor.data)
        return self.constant(f"{tensor.name}.converted", real if quant is None else quantize(real, quant), quant)

    def finish(self, node: Node, index: int) -> None:
        """Say that this is a node's value, in whatever format: it is brought to the node's own, and has its name."""
        index = self.convert(index, self.quant(node.name))
        if index not in self._values.values() and self.tensors[index].data is None:
            self.tensors[index].name = node.name
        self._values[node.name] = index

    def note(self, what: str, node: Node) -> None:
        """Something that a user should know of a node."""
        self.notes.setdefault(what, []).append(node.origin or node.name)

    def refuse(self, node: Node, why: str, hint: str = "") -> ToolError:
        """What a rule raises for a node that has no form in TFLite."""
        return ToolError(f"{node.op} cannot be written to tflite", where=node.origin or node.name, why=why, hint=hint)

    def _new(self, name: str, shape: Shape, quant: QuantParams | None, data: Array | None = None) -> int:
        kind = "float32" if quant is None else quant.dtype
        self.tensors.append(FileTensor(name, tuple(shape), kind if data is None else str(data.dtype), quant, data))
        return len(self.tensors) - 1

    def model(self) -> FileModel:
        """The finished model; every output is a tensor of its own, of the output's name."""
        inputs = [self._values[name] for name in self.graph.inputs]
        outputs: list[int] = []
        for name in self.graph.outputs:
            index = self.get(name)
            tensor = self.tensors[index]
            if index in (*inputs, *outputs) or tensor.name != name or tensor.data is not None:
                same = [index, self.ints(f"{name}.shape", tensor.shape)]
                index = self.op("RESHAPE", same, tensor.shape, tensor.quant, name)
            outputs.append(index)
        return FileModel(self.graph.name, self.tensors, self.operators, inputs, outputs)


def stored(quant: QuantParams | None) -> QuantParams | None:
    """A format as the file has it: int8, whatever way it rounds; None where it is wider, for that is float there."""
    if quant is None or quant.bits > 8:
        return None
    return QuantParams(quant.scale, quant.zero_point - (0 if quant.signed else UNSIGNED), axis=quant.axis)


def _stored_data(data: Array, quant: QuantParams | None) -> Array:
    if quant is None or quant.bits > 8:
        return data if quant is None else quant.dequantize(data)
    return data.astype(np.int64) - (0 if quant.signed else UNSIGNED)
