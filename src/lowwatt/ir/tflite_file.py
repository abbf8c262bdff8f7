"""The .tflite container: tensors and operators as lists, written as the flatbuffer that LiteRT reads.

The schema is that of package `tflite`, made by flatc of LiteRT's schema.fbs; its functions are found by name, so that
a table is said by its kind and its fields. Nothing else here knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.types import Array, QuantParams, Shape

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every file."""

SIGNATURE = "serving_default"
"""Name under which inputs and outputs are listed, as TensorFlow's own exports have it."""

SCHEMA_VERSION = 3

_ALIGNMENT = 16
"""Bytes on which kernels expect the data of constants to begin."""

_TYPES = {"float32": "FLOAT32", "int32": "INT32", "int8": "INT8"}
"""NumPy's type → name in the schema's TensorType."""


@dataclass(slots=True)
class FileTensor:
    """A tensor as the file has it: float32, int32 or int8; `data` for constants."""

    name: str
    shape: Shape
    dtype: str
    quant: QuantParams | None = None
    data: Array | None = None


@dataclass(frozen=True, slots=True)
class FileOperator:
    """One operator: its name in BuiltinOperator and version, tensors by index, table of options and its content."""

    kind: str
    version: int
    inputs: tuple[int, ...]
    output: int
    options: str = ""
    fields: Mapping[str, int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileModel:
    """What a file holds: tensors, operators in order, and which tensors go in and come out."""

    name: str
    tensors: Sequence[FileTensor]
    operators: Sequence[FileOperator]
    inputs: Sequence[int]
    outputs: Sequence[int]


def pack(model: FileModel) -> bytes:
    """Bytes of the file; equal models give equal bytes. ToolError where `tflite` or `flatbuffers` is not installed."""
    return _Writer(*_packages()).file(model)


def _packages() -> tuple[ModuleType, ModuleType]:
    try:
        import flatbuffers
        import tflite
    except ImportError as error:
        raise ToolError(
            "a .tflite file cannot be written",
            why=f"the package {error.name} is not installed",
            hint='pip install tflite flatbuffers, or pip install "lowwatt[litert]"',
        ) from None
    return tflite, flatbuffers


class _Writer:
    """A flatbuffer grows from its leaves: what a table refers to is written before it."""

    def __init__(self, schema: ModuleType, flatbuffers: ModuleType) -> None:
        self.schema = schema
        self.builder: Any = flatbuffers.Builder(1 << 16)

    def file(self, model: FileModel) -> bytes:
        """The whole model."""
        buffers = [self.table("Buffer"), *(self._buffer(t.data) for t in model.tensors if t.data is not None)]
        codes = list(dict.fromkeys((op.kind, op.version) for op in model.operators))
        fields = {
            "OperatorCodes": self.offsets([self._code(*code) for code in codes]),
            "Subgraphs": self.offsets([self._subgraph(model, codes)]),
            "Description": self.builder.CreateString("lowwatt"),
            "Buffers": self.offsets(buffers),
            "SignatureDefs": self.offsets([self._signature(model)]),
        }
        self.builder.Finish(self.table("Model", Version=SCHEMA_VERSION, **fields), file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    def table(self, kind: str, **fields: Any) -> int:
        """A table of the schema; its offset."""
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        return int(getattr(self.schema, f"{kind}End")(self.builder))

    def vector(self, values: Any, dtype: str) -> int:
        """A vector of numbers."""
        return int(self.builder.CreateNumpyVector(np.ascontiguousarray(values, dtype)))

    def offsets(self, offsets: Sequence[int]) -> int:
        """A vector of tables or strings."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _buffer(self, data: Array) -> int:
        raw = np.frombuffer(np.ascontiguousarray(data, data.dtype.newbyteorder("<")).tobytes(), np.uint8)
        self.builder.Prep(_ALIGNMENT, len(raw))
        return self.table("Buffer", Data=self.vector(raw, "uint8"))

    def _code(self, kind: str, version: int) -> int:
        number = getattr(self.schema.BuiltinOperator, kind)
        fields = {"DeprecatedBuiltinCode": min(number, 127), "Version": version, "BuiltinCode": number}
        return self.table("OperatorCode", **fields)

    def _subgraph(self, model: FileModel, codes: Sequence[tuple[str, int]]) -> int:
        buffers = _counted(model.tensors)
        tensors = self.offsets([self._tensor(t, b) for t, b in zip(model.tensors, buffers, strict=True)])
        operators = self.offsets([self._operator(op, codes.index((op.kind, op.version))) for op in model.operators])
        ends = {"Inputs": self.vector(model.inputs, "int32"), "Outputs": self.vector(model.outputs, "int32")}
        name = self.builder.CreateString(model.name)
        return self.table("SubGraph", Tensors=tensors, **ends, Operators=operators, Name=name)

    def _tensor(self, tensor: FileTensor, buffer: int) -> int:
        fields: dict[str, Any] = {"Shape": self.vector(tensor.shape, "int32")}
        fields |= {"Type": getattr(self.schema.TensorType, _TYPES[tensor.dtype]), "Buffer": buffer}
        fields["Name"] = self.builder.CreateString(tensor.name)
        if tensor.quant is not None:
            fields["Quantization"] = self._quantization(tensor.quant)
        return self.table("Tensor", **fields)

    def _quantization(self, quant: QuantParams) -> int:
        scales = np.atleast_1d(np.asarray(quant.scale, np.float32))
        points = np.full(len(scales), quant.zero_point)
        fields = {"Scale": self.vector(scales, "float32"), "ZeroPoint": self.vector(points, "int64")}
        return self.table("QuantizationParameters", **fields, QuantizedDimension=quant.axis or 0)

    def _operator(self, op: FileOperator, code: int) -> int:
        fields: dict[str, Any] = {"Inputs": self.vector(op.inputs, "int32"), "OpcodeIndex": code}
        fields["Outputs"] = self.vector([op.output], "int32")
        if op.options:
            fields["BuiltinOptionsType"] = getattr(self.schema.BuiltinOptions, op.options)
            fields["BuiltinOptions"] = self.table(op.options, **op.fields)
        return self.table("Operator", **fields)

    def _signature(self, model: FileModel) -> int:
        fields = {"Inputs": self._named(model, model.inputs), "Outputs": self._named(model, model.outputs)}
        return self.table("SignatureDef", **fields, SignatureKey=self.builder.CreateString(SIGNATURE))

    def _named(self, model: FileModel, indices: Iterable[int]) -> int:
        names = [(self.builder.CreateString(model.tensors[index].name), index) for index in indices]
        return self.offsets([self.table("TensorMap", Name=name, TensorIndex=index) for name, index in names])


def _counted(tensors: Iterable[FileTensor]) -> list[int]:
    """Buffer of each tensor: the constants' own in order, the empty first one for all others."""
    found, count = [], 0
    for tensor in tensors:
        count += tensor.data is not None
        found.append(count if tensor.data is not None else 0)
    return found
