"""The file form of a Graph (`.lwg`): one archive of text and weights, the same bytes for the same graph.

`graph.txt` is the text of `lowwatt.ir.text`, which also carries the format's version and `meta`;
`weights/00000.bin`, … are the constants in the text's order, little-endian, C order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import read_archive, write_archive
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.ir.text import from_text, to_text
from lowwatt.types import Array


def save(graph: Graph, path: str | Path) -> None:
    """Write a graph, weights included, atomically. Equal graphs give equal bytes.

    >>> import tempfile
    >>> g = Graph("empty")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(g, f"{folder}/g.lwg")
    ...     load(f"{folder}/g.lwg").name
    'empty'
    """
    write_archive(path, pack(graph))


def pack(graph: Graph) -> dict[str, bytes]:
    """Members of a graph's archive; a larger archive (a program, say) may hold them too."""
    members = {"graph.txt": to_text(graph).encode()}
    for member, tensor in _members(graph):
        if tensor.data is None:
            raise ToolError("the graph cannot be saved", where=tensor.name, why="the constant has no value")
        if str(tensor.data.dtype) != tensor.dtype or tensor.data.shape != tensor.shape:
            raise ToolError("the graph cannot be saved", where=tensor.name, why="its value has another type or shape")
        members[member] = np.ascontiguousarray(tensor.data, tensor.data.dtype.newbyteorder("<")).tobytes()
    return members


def load(path: str | Path) -> Graph:
    """Read a graph written by `save`; ToolError for a file that is missing, foreign, damaged or newer."""
    return unpack(read_archive(path), str(path))


def unpack(members: Mapping[str, bytes], path: str) -> Graph:
    """Graph of the members that `pack` made; ToolError, naming `path`, for anything else."""
    if "graph.txt" not in members:
        raise ToolError("this is no graph of ours", where=path, why="the archive holds no graph.txt")
    try:
        graph = from_text(members["graph.txt"].decode())
        for member, tensor in _members(graph):
            tensor.data = _array(members.get(member, b""), tensor)
        return graph.verify()
    except ToolError as error:
        where = ", ".join(part for part in (path, error.where) if part)
        raise ToolError(error.what, where=where, why=error.why, hint=error.hint) from None
    except Exception as error:  # a text that parses can still hold attributes of the wrong kind
        raise ToolError("the graph's file is damaged", where=path, why=str(error)) from None


def _members(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """Constants with the names of their members; before the weights are read they are what nobody makes."""
    produced = {node.name for node in graph.nodes} | set(graph.inputs)
    constants = [tensor for name, tensor in graph.tensors.items() if name not in produced]
    return ((f"weights/{i:05d}.bin", tensor) for i, tensor in enumerate(constants))


def _array(data: bytes, tensor: Tensor) -> Array:
    dtype = np.dtype(tensor.dtype)
    if len(data) != math.prod(tensor.shape) * dtype.itemsize:
        raise ToolError(
            "the graph's file is damaged",
            where=tensor.name,
            why=f"{len(data)} bytes for shape {tensor.shape} of {tensor.dtype}",
        )
    values = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
    return values.reshape(tensor.shape)
