"""The accelerator's parts of a compiled .xmodel that lowwatt wrote: code, registers, places of what goes in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from lowwatt.compiler.isa import ISA0, ISA1, Instruction, InstructionSet, decode
from lowwatt.compiler.segment import LayerInfo
from lowwatt.compiler.xmodel_accelerator import LAYER_CODE, LAYER_MACS, LAYER_OP, LAYER_ORIGIN
from lowwatt.errors import ToolError
from lowwatt.ir.xmodel_proto import decode as value_of
from lowwatt.ir.xmodel_proto import messages
from lowwatt.types import Shape

_COPIES = ("upload", "download", "fix2float")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a map lies: register, first byte, shape of one image, and bytes between neighbours along each axis."""

    register: int
    address: int
    shape: Shape
    stride: Shape


@dataclass(frozen=True, slots=True)
class Part:
    """One program. `inputs` and `outputs` are by the operator whose values they are, as the file calls it.

    Instruction k is of layer `owners[k]`.
    """

    name: str
    fingerprint: int
    isa: InstructionSet
    code: bytes
    instructions: list[Instruction]
    sizes: dict[int, int]
    constants: dict[int, bytes]
    inputs: dict[str, Place]
    outputs: dict[str, Place]
    layers: list[LayerInfo]
    owners: list[int]


def read_parts(path: str | Path) -> list[Part]:
    """Parts in order of execution; [] for a file of somebody else. ToolError for one of ours that is damaged."""
    message = messages()["Graph"]()
    try:
        message.ParseFromString(Path(path).read_bytes())
    except (OSError, DecodeError, RuntimeError):
        return []
    try:
        if _attrs(message.graph_attr).get("origin") != "lowwatt":
            return []
        ops = {op.op_name: op for op in message.op_node}
        return [_part(child, ops) for child in message.subg_root.subg_child if "mc_code" in child.subg_attr]
    except ToolError as error:
        raise ToolError(error.what, where=str(path), why=error.why or error.where, hint=error.hint) from None
    except Exception as error:  # protobuf that parses can hold anything
        why = f"{type(error).__name__}: {error}"[:200]
        raise ToolError("cannot read the compiled .xmodel", where=str(path), why=why) from None


def fingerprints(path: str | Path) -> set[int]:
    """Those of the DPUs for which the subgraphs of a file, of whoever's, were compiled; ToolError for another file."""
    message = messages()["Graph"]()
    try:
        message.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise ToolError("cannot read the .xmodel", where=str(path), why=error.strerror or str(error)) from None
    except (DecodeError, RuntimeError) as error:
        raise ToolError("this is no .xmodel", where=str(path), why=str(error)) from None
    left, found = [message.subg_root], set[int]()
    while left:
        subgraph = left.pop()
        left += subgraph.subg_child
        if "dpu_fingerprint" in subgraph.subg_attr:
            found.add(int(value_of(subgraph.subg_attr["dpu_fingerprint"])))
    return found


def _attrs(attrs: Any) -> dict[str, Any]:
    return {key: value_of(value) for key, value in attrs.items()}


def _part(child: Any, ops: Mapping[str, Any]) -> Part:
    attrs = _attrs(child.subg_attr)
    isa = (ISA0, ISA1)[attrs["dpu_fingerprint"] >> 48 & 0xFF]
    instructions = decode(attrs["mc_code"], isa)
    here = [ops[name] for leaf in child.subg_child for name in leaf.op_name]
    layers, owners = _layers(child, len(instructions))
    return Part(
        child.subgraph_name.removeprefix("subgraph_"),
        attrs["dpu_fingerprint"],
        isa,
        attrs["mc_code"],
        instructions,
        {_register(name): int(size) for name, size in attrs["reg_id_to_size"].items()},
        {_register(name): bytes(data) for name, data in attrs["reg_id_to_parameter_value"].items()},
        {_source(op, ops): _place(op) for op in here if op.op_type == "upload"},
        {_source(op, ops): _place(ops[_producer(op)]) for op in here if op.op_type == "download"},
        layers,
        owners,
    )


def _register(name: str) -> int:
    return int(name.removeprefix("REG_"))


def _producer(op: Any) -> str:
    name: str = op.args[0].arg_ops[0]
    return name


def _source(op: Any, ops: Mapping[str, Any]) -> str:
    """The operator that makes what copies hand on."""
    while op.op_type in _COPIES:
        op = ops[_producer(op)]
    return str(op.op_name)


def _place(op: Any) -> Place:
    attrs = _attrs(op.output_tensor.tensor_attr)
    shape, stride = tuple(op.output_tensor.tensor_dim)[1:], tuple(attrs["stride"])[1:]
    if len(shape) != len(stride):
        raise ToolError("a map's strides do not fit its shape", where=op.op_name)
    return Place(attrs["reg_id"], attrs["ddr_addr"], shape, stride)


def _layers(child: Any, count: int) -> tuple[list[LayerInfo], list[int]]:
    """Layers that lowwatt noted, and the layer of each instruction; [], [] where they leave any out."""
    layers: list[LayerInfo] = []
    owners = [-1] * count
    for leaf in child.subg_child:
        attrs = _attrs(leaf.subg_attr)
        if LAYER_OP not in attrs:
            continue
        for first, last in _pairs(attrs.get(LAYER_CODE, [])):
            if not 0 <= first < last <= count:
                raise ToolError("a layer's instructions are not in the program", where=leaf.subgraph_name)
            owners[first:last] = [len(layers)] * (last - first)
        name, nodes = leaf.subgraph_name.removeprefix("subgraph_"), tuple(leaf.op_name)
        layers.append(LayerInfo(name, str(attrs[LAYER_OP]), str(attrs[LAYER_ORIGIN]), nodes, int(attrs[LAYER_MACS])))
    return (layers, owners) if -1 not in owners else ([], [])


def _pairs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)
