"""Programs that the vendor's compilers left in files: compiled .xmodel (xcompiler) and DNNDK .elf (dnnc)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from lowwatt.compiler.isa.table import ISA0, ISA0_FIRST, ISA1, InstructionSet
from lowwatt.errors import ToolError
from lowwatt.ir import xmodel_proto

_DPUCZDX8G = 1
_SETS = {0: ISA0, 1: ISA1}
_ELF = b"\x7fELF"
_NO_BITS = 8
"""Type of a section that takes no room in the file."""

_HINT = (
    "disasm reads .lwp, compiled .xmodel and DNNDK .elf; an exported .xmodel has no code until vai_c_xir compiled it"
)


@dataclass(frozen=True)
class Stream:
    """One program. `layer` says that it is the program of a single layer, beside that of its whole subgraph."""

    name: str
    isa: InstructionSet
    code: bytes
    fingerprint: int | None = None
    layer: bool = False


def streams(path: str | Path) -> list[Stream]:
    """Programs of a compiled file, layer by layer behind their subgraph where the file has both.

    ToolError for a file that cannot be read, has no code, or has code of another machine than DPUCZDX8G.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ToolError("cannot read the file", where=str(path), why=error.strerror or str(error)) from None
    try:
        found = list(_elf(data) if data.startswith(_ELF) else _xmodel(data))
    except (DecodeError, RuntimeError, struct.error, IndexError, ValueError) as error:
        raise ToolError("cannot read the file", where=str(path), why=str(error)[:200], hint=_HINT) from None
    if not found:
        raise ToolError("the file holds no DPU code", where=str(path), hint=_HINT)
    return found


def _xmodel(data: bytes) -> Iterator[Stream]:
    graph = xmodel_proto.messages()["Graph"]()
    graph.ParseFromString(data)
    yield from _subgraph(graph.subg_root, None)


def _subgraph(subgraph: Any, inherited: int | None) -> Iterator[Stream]:
    """Streams of a subgraph and of those in it, which have its fingerprint."""
    attrs, name = subgraph.subg_attr, subgraph.subgraph_name
    own = xmodel_proto.decode(attrs["dpu_fingerprint"]) if "dpu_fingerprint" in attrs else None
    fingerprint = inherited if own is None else own
    for key, suffix in (("mc_code_preload", " (preload)"), ("mc_code", "")):
        code = xmodel_proto.decode(attrs[key]) if key in attrs else None
        if code:
            yield Stream(name + suffix, _isa(name, fingerprint), code, fingerprint, layer=own is None)
    for child in subgraph.subg_child:
        yield from _subgraph(child, fingerprint)


def _isa(name: str, fingerprint: int | None) -> InstructionSet:
    if fingerprint is None:
        raise ToolError("no fingerprint says for which core this code is", where=name, hint=_HINT)
    if fingerprint >> 56 != _DPUCZDX8G or fingerprint >> 48 & 0xFF not in _SETS:
        why = f"its fingerprint is 0x{fingerprint:x}"
        raise ToolError("the code is of another machine than DPUCZDX8G", where=name, why=why, hint=_HINT)
    return _SETS[fingerprint >> 48 & 0xFF]


def _elf(data: bytes) -> Iterator[Stream]:
    """Sections .deephi.code.NAME; .deephi.strtab.NAME tells the core's version, of which 1.4.0 has words of its own."""
    sections = dict(_sections(data))
    for title, code in sections.items():
        name = title.removeprefix(".deephi.code.")
        if name != title:
            first = b"DPU Target : v1.4.0" in sections.get(f".deephi.strtab.{name}", b"")
            yield Stream(name, ISA0_FIRST if first else ISA0, code)


def _sections(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each section of a little-endian ELF file, 32 or 64 bit."""
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q", data, 40) if wide else struct.unpack_from("<I", data, 32)
    size, count, names = struct.unpack_from("<3H", data, 58 if wide else 46)
    layout = "<II16xQQ" if wide else "<II8xII"
    headers = [struct.unpack_from(layout, data, table + size * k) for k in range(count)]
    strings = headers[names][2]
    for title, kind, offset, length in headers:
        begin = strings + title
        name = data[begin : data.index(b"\0", begin)].decode()
        if kind != _NO_BITS and offset + length > len(data):
            raise ValueError(f"the file ends within section {name}")
        yield name, data[offset : offset + length]
