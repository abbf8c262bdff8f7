"""The message of a compiled .xmodel as it is being written: operators, each with its tensor, and nested subgraphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from lowwatt.compiler.dram import WORKSPACE, Region
from lowwatt.compiler.workload import Work
from lowwatt.ir.graph import Tensor
from lowwatt.ir.xmodel_proto import Unsigned, encode, messages
from lowwatt.types import Array, QuantParams, Shape

Attrs = dict[str, Any]
_FLOAT, _XINT = (4, 32), 2  # Tensor.data_type (docs/dpu.md 4.1)
_IN_DDR, _ON_CHIP = 1, 0  # a tensor's location


@dataclass(frozen=True, slots=True)
class Form:
    """What the file says of a tensor: shape, number format, and on the accelerator its place."""

    shape: Shape
    quant: QuantParams | None = None
    place: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, tensor: Tensor, place: Mapping[str, Any] | None = None) -> Form:
        """Form of a tensor of the graph."""
        return cls(tensor.shape, tensor.quant, place)


def in_dram(region: Region, shape: Shape) -> Attrs:
    """Place of a map: register, address, and how far apart neighbours are along each axis, in bytes."""
    if len(shape) == 4 and shape[1:3] == (region.height, region.width):
        row, pixel = region.row_bytes, region.pixel_bytes
        stride = [region.height * row, row, pixel, 1]
    else:
        stride = [region.pixel_bytes * prod(shape[k + 1 : -1]) for k in range(len(shape) - 1)] + [1]
    return {"location": _IN_DDR, "reg_id": region.register, "ddr_addr": region.address, "stride": stride}


def constant_at(register: int, address: int) -> Attrs:
    """Place of a constant: the vendor's files give these no stride."""
    return {"location": _IN_DDR, "reg_id": register, "ddr_addr": address}


ON_CHIP: Attrs = {"location": _ON_CHIP, "reg_id": WORKSPACE, "ddr_addr": 0}
"""Place of a map that never leaves the banks."""


def work(figures: Work) -> Attrs:
    """The two workload attributes."""
    return {"workload": Unsigned(figures[0]), "workload_on_arch": Unsigned(figures[1])}


class XModelFile:
    """Operators in topological order; names are made unique as they come."""

    def __init__(self, name: str) -> None:
        self.message = messages()["Graph"](graph_name=name)
        self._used: set[str] = set()

    def unique(self, wanted: str) -> str:
        """The name, or one like it that is still free."""
        name, number = wanted or "_", 0
        while name in self._used:
            number += 1
            name = f"{wanted}_{number}"
        self._used.add(name)
        return name

    def op(self, name: str, kind: str, form: Form, args: Mapping[str, Sequence[str]], attrs: Attrs) -> str:
        """Add an operator under a free name; returns that."""
        op = self.message.op_node.add(op_name=self.unique(name), op_type=kind)
        for argument, producers in args.items():
            op.args.add(arg_name=argument, arg_ops=producers)
        for key, value in attrs.items():
            encode(op.op_attr[key], value)
        tensor = op.output_tensor
        tensor.tensor_name = op.op_name
        tensor.tensor_dim.extend(form.shape)
        tensor.data_type, tensor.tensor_bit_width = _FLOAT if form.quant is None else (_XINT, form.quant.bits)
        for key, value in {**number_format(form.quant), **(form.place or {})}.items():
            encode(tensor.tensor_attr[key], value)
        made: str = op.op_name
        return made

    def constant(self, name: str, data: Array, quant: QuantParams | None, device: str, place: Attrs | None) -> str:
        """Add a constant: integers, or float32 where it has no quantization."""
        data = data.reshape(1) if data.ndim == 0 else data
        kind, dtype = ("const", "FLOAT32") if quant is None else ("const-fix", f"XINT{quant.bits}")
        stored = data.astype("<f4" if quant is None else data.dtype.newbyteorder("<")).tobytes()
        attrs = {"shape": list(data.shape), "data_type": dtype, "data": stored, "device": device}
        return self.op(name, kind, Form(data.shape, quant, place), {}, attrs)

    def finish(self, outputs: Sequence[str], attrs: Attrs) -> bytes:
        """The file's bytes; equal content gives equal ones."""
        for key, value in {**attrs, "return_ops": list(outputs)}.items():
            encode(self.message.graph_attr[key], value)
        data: bytes = self.message.SerializeToString(deterministic=True)
        return data


def number_format(quant: QuantParams | None) -> Attrs:
    """Attributes of an integer tensor, and of the operators that convert to and from it."""
    if quant is None:
        return {}
    return {
        "fix_point": quant.fix_point,
        "bit_width": quant.bits,
        "if_signed": quant.signed,
        "round_mode": "DPU_ROUND",
    }


def subgraph(parent: Any, op: str, attrs: Attrs, ops: Sequence[str] = ()) -> Any:
    """Add a subgraph named after an operator; one has operators or children, never both."""
    child = parent.subg_child.add(subgraph_name=f"subgraph_{op}", op_name=ops)
    for key, value in attrs.items():
        encode(child.subg_attr[key], value)
    return child
