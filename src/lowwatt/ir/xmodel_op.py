"""One operator of an .xmodel file, decoded, with typed access to its attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.xmodel_proto import decode
from lowwatt.types import Array, QuantParams, Shape

_DTYPES = {
    "FLOAT32": "float32",
    "FLOAT64": "float64",
    "XINT8": "int8",
    "INT8": "int8",
    "XUINT8": "uint8",
    "UINT8": "uint8",
    "XINT16": "int16",
    "INT16": "int16",
    "XINT32": "int32",
    "INT32": "int32",
    "INT64": "int64",
    "UINT32": "uint32",
}


@dataclass(frozen=True, slots=True)
class XOp:
    """Name, type, attributes, producers by argument; of the output tensor the stated shape, attributes and name."""

    name: str
    type: str
    attrs: Mapping[str, Any]
    args: Mapping[str, tuple[str, ...]]
    shape: Shape
    tensor_attrs: Mapping[str, Any]
    tensor: str

    @classmethod
    def of(cls, message: Any) -> XOp:
        """From an OPNode message."""
        tensor = message.output_tensor
        return cls(
            message.op_name,
            message.op_type,
            {key: decode(value) for key, value in message.op_attr.items()},
            {arg.arg_name: tuple(arg.arg_ops) for arg in message.args},
            tuple(tensor.tensor_dim),
            {key: decode(value) for key, value in tensor.tensor_attr.items()},
            tensor.tensor_name,
        )

    def fail(self, what: str, why: str = "", hint: str = "") -> ToolError:
        """Error at this operator: raise it."""
        return ToolError(f"{self.type}: {what}", where=self.name, why=why, hint=hint)

    def inputs(self) -> list[str]:
        """Producers in the order input, weights, bias, then any other argument."""
        known = ("input", "weights", "bias", "gamma", "beta", "moving_mean", "moving_var")
        names = [a for a in known if a in self.args] + [a for a in self.args if a not in known]
        return [producer for name in names for producer in self.args[name]]

    def number(self, key: str, default: int | None = None) -> int:
        """Whole number `key`."""
        value = self._get(key, default)
        if not isinstance(value, int):
            raise self.fail(f"attribute {key} must be a whole number", f"it is {value!r}"[:80])
        return int(value)

    def real(self, key: str) -> float:
        """Real number `key`."""
        value = self._get(key, None)
        if not isinstance(value, (int, float)):
            raise self.fail(f"attribute {key} must be a number", f"it is {value!r}"[:80])
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Text `key`."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.fail(f"attribute {key} must be text", f"it is {value!r}"[:80])
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Truth value `key`."""
        value = self._get(key, default)
        if not isinstance(value, (bool, int)):
            raise self.fail(f"attribute {key} must be true or false", f"it is {value!r}"[:80])
        return bool(value)

    def numbers(self, key: str, count: int | None = None, default: list[int] | None = None) -> tuple[int, ...]:
        """Whole numbers `key`, `count` of them."""
        value = self._get(key, default)
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise self.fail(f"attribute {key} must be whole numbers", f"it is {value!r}"[:80])
        if count is not None and len(value) != count:
            raise self.fail(f"attribute {key} must have {count} numbers", f"it has {len(value)}")
        return tuple(value)

    def reals(self, key: str, count: int | None = None) -> tuple[float, ...]:
        """Finite numbers `key`, `count` of them."""
        value = self._get(key, None)
        numbers = isinstance(value, list) and all(isinstance(v, (int, float)) and math.isfinite(v) for v in value)
        if not numbers or (count is not None and len(value) != count):
            raise self.fail(f"attribute {key} must be {count or ''} numbers", f"it is {value!r}"[:80])
        return tuple(float(v) for v in value)

    def _get(self, key: str, default: Any) -> Any:
        value = self.attrs.get(key, default)
        if value is None:
            raise self.fail(f"attribute {key} is missing")
        return value

    def quant(self) -> QuantParams:
        """Number format of a `fix`, `fix2float` or `float2fix`."""
        return quant_params(self, self.attrs)

    def tensor_quant(self) -> QuantParams | None:
        """Number format of the output tensor; None where it states none."""
        return quant_params(self, self.tensor_attrs) if "fix_point" in self.tensor_attrs else None

    def constant(self) -> Array:
        """Value of a `const` or `const-fix`; empty where the file left the data out (compiled files do)."""
        dtype = _DTYPES.get(self.text("data_type").upper())
        data, shape = self._get("data", None), self.numbers("shape")
        if dtype is None or not isinstance(data, bytes):
            raise self.fail("cannot read the constant", f"data_type {self.attrs['data_type']!r}"[:80])
        stored = np.dtype(dtype).newbyteorder("<")
        if min(shape, default=1) < 1 or (data and len(data) != math.prod(shape) * stored.itemsize):
            raise self.fail("the constant's data does not fit its shape", f"{len(data)} bytes, {dtype}, {shape}")
        values = np.frombuffer(data, stored).astype(dtype)
        return values.reshape(shape) if data else values


def quant_params(op: XOp, attrs: Mapping[str, Any]) -> QuantParams:
    """Number format from the attributes fix_point, bit_width, if_signed."""
    fix_point, bits, signed = attrs.get("fix_point"), attrs.get("bit_width", 8), attrs.get("if_signed", True)
    if not isinstance(fix_point, int) or not -64 <= fix_point <= 64:
        raise op.fail("no usable fix_point", f"it is {fix_point!r}"[:80])
    if not isinstance(bits, int) or not 2 <= bits <= 32 or not isinstance(signed, (bool, int)):
        raise op.fail("no usable bit_width", f"bit_width {bits!r}, if_signed {signed!r}"[:80])
    return QuantParams.power_of_two(fix_point, bits, bool(signed))
