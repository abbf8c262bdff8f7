"""The .xmodel container: protobuf messages of package serial_v2, described here and built without a compiler.

Source: graph_proto_v2.proto of the vendor's open XIR library (docs/dpu.md 4.1, 4.2).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "serial_v2"
_FIELD = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "uint32": _FIELD.TYPE_UINT32,
    "int64": _FIELD.TYPE_INT64,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}

_VECTORS = {
    "BoolVec": "bool",
    "Int32Vec": "int32",
    "Uint32Vec": "uint32",
    "Int64Vec": "int64",
    "Uint64Vec": "uint64",
    "FloatVec": "float",
    "DoubleVec": "double",
    "StringVec": "string",
    "BytesVec": "bytes",
}

_MAP_VALUES = ["int32", "uint32", "int64", "uint64", "string", "Bytes"]
_MAP_VALUES += ["Int32Vec", "Uint32Vec", "Int64Vec", "Uint64Vec", "StringVec"]

# (name, number, type, repeated); a type "map:X" is map<string, X>
_Fields = list[tuple[str, int, str, bool]]

_MESSAGES: dict[str, _Fields] = {
    "Graph": [
        ("graph_name", 1, "string", False),
        ("op_node", 5, "OPNode", True),
        ("subg_root", 10, "SubGraph", False),
        ("graph_attr", 11, "map:AttrValue", True),
        ("op_defs", 101, "OpDef", True),
    ],
    "OPNode": [
        ("op_name", 1, "string", False),
        ("op_type", 2, "string", False),
        ("op_attr", 3, "map:AttrValue", True),
        ("args", 4, "OpArg", True),
        ("output_tensor", 5, "Tensor", False),
    ],
    "OpArg": [("arg_name", 1, "string", False), ("arg_ops", 2, "string", True)],
    "Tensor": [
        ("tensor_name", 1, "string", False),
        ("tensor_dim", 2, "uint32", True),
        ("data_type", 5, "int32", False),
        ("tensor_bit_width", 6, "int32", False),
        ("tensor_attr", 10, "map:AttrValue", True),
    ],
    "SubGraph": [
        ("subgraph_name", 1, "string", False),
        ("op_name", 3, "string", True),
        ("subg_attr", 5, "map:AttrValue", True),
        ("subg_child", 10, "SubGraph", True),
    ],
    "OpDef": [
        ("name", 1, "string", False),
        ("input_args", 2, "OpArgDef", True),
        ("attrs", 3, "AttrDef", True),
        ("annotation", 4, "string", False),
    ],
    "OpArgDef": [
        ("name", 1, "string", False),
        ("occur_type", 2, "int32", False),
        ("data_type", 3, "int32", False),
        ("annotation", 4, "string", False),
    ],
    "AttrDef": [
        ("name", 1, "string", False),
        ("occur_type", 3, "int32", False),
        ("default_value", 4, "AttrValue", False),
        ("list_length", 6, "int32", False),
        ("annotation", 7, "string", False),
    ],
    "Bytes": [("value", 1, "bytes", False)],
    **{name: [("value", 1, kind, True)] for name, kind in _VECTORS.items()},
    **{f"MapString2{v[0].upper()}{v[1:]}": [("value", 1, f"map:{v}", True)] for v in _MAP_VALUES},
}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def _attr_value_fields() -> _Fields:
    """The members of AttrValue's `value`, numbers 4 to 32 in the file's own order."""
    plain = ["bool", "int32", "uint32", "int64", "uint64", "float", "double", "string"]
    members = [(f"{kind}_value", kind) for kind in plain] + [("bytes_value", "Bytes")]
    members += [(f"{_snake(vector)}_value", vector) for vector in _VECTORS]
    members += [(f"map_string_2_{_snake(v)}_value", f"MapString2{v[0].upper()}{v[1:]}") for v in _MAP_VALUES]
    return [(name, number, kind, False) for number, (name, kind) in enumerate(members, start=4)]


def _add_field(message: Any, name: str, number: int, kind: str, repeated: bool) -> None:
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    if kind.startswith("map:"):
        entry = message.nested_type.add(name="".join(p.capitalize() for p in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string", False)
        _add_field(entry, "value", 2, kind[4:], False)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="lowwatt/graph_proto_v2.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    value = file.message_type.add(name="AttrValue")
    value.oneof_decl.add(name="value")
    for field in _attr_value_fields():
        _add_field(value, *field)
        value.field[-1].oneof_index = 0
    return file


@cache
def messages() -> dict[str, Any]:
    """Message classes by name: Graph, OPNode, OpArg, Tensor, SubGraph, AttrValue, …"""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    names = [*_MESSAGES, "AttrValue"]
    found = {n: pool.FindMessageTypeByName(f"{_PACKAGE}.{n}") for n in names}
    return {n: message_factory.GetMessageClass(d) for n, d in found.items()}


def decode(value: Any) -> Any:
    """Python value of an AttrValue: number, text, bytes, list or dict; None where no member is set."""
    member = value.WhichOneof("value")
    if member is None:
        return None
    return _plain(getattr(value, member))


def _plain(value: Any) -> Any:
    if not hasattr(value, "DESCRIPTOR"):
        return value
    inner = value.value
    if isinstance(inner, bytes):
        return inner
    return {k: _plain(v) for k, v in inner.items()} if hasattr(inner, "items") else list(inner)


class Unsigned(int):
    """A whole number that a file holds as uint64: fingerprints and workloads."""


def encode(into: Any, value: Any) -> None:
    """Set an AttrValue: bool, int (int32), Unsigned (uint64), float, str, bytes, a non-empty list of int, float or str,
    or a non-empty dict of text to int (int32), str or bytes.

    The vendor's reader is typed: a double where it wants a float, or an int64 for an int32, fails there (4.2).
    """
    if isinstance(value, bytes):
        into.bytes_value.value = value
    elif isinstance(value, list | tuple):
        getattr(into, f"{_SHORT[type(value[0])]}_vec_value").value.extend(value)
    elif isinstance(value, dict):
        _encode_map(into, value)
    else:
        setattr(into, f"{_SHORT[type(value)]}_value", value)


_SHORT = {bool: "bool", int: "int32", Unsigned: "uint64", float: "float", str: "string", bytes: "bytes"}


def _encode_map(into: Any, values: dict[str, Any]) -> None:
    kind = _SHORT[type(next(iter(values.values())))]
    entries = getattr(into, f"map_string_2_{kind}_value").value
    for key, value in values.items():
        if isinstance(value, bytes):
            entries[key].value = value
        else:
            entries[key] = value
