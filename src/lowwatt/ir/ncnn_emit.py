"""Emitter of ncnn's files: the text of a .param, the bytes of a .bin, and the scales of a calibration table.

ncnn has maps as (channels, height, width) without a batch, one layer a line, and a Split in front of every second
reader of a value. Formats: ncnn's wiki, "param and model file structure" and "operation param weight table".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.types import Array, Shape

MAGIC = "7767517"
INT8_TAG = 0x000D4B38
"""In front of weights that are int8; zero in front of float32."""

Number = int | float
Parameters = Mapping[int, "Number | Sequence[Number]"]


class NcnnEmitter:
    """Collects layers and weights of one graph; rules call `layer`, `get` and the two that add weights."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.table: dict[str, list[float]] = {}
        """Steps a unit of each layer's weights (`<layer>_param_0`) and of what it reads (`<layer>`)."""
        self._lines: list[str] = []
        self._weights: list[bytes] = []
        self._blobs = 0
        self._alias: dict[str, str] = {}
        self._left = self._readers()

    def _readers(self) -> dict[str, list[str]]:
        """Names under which a value's readers find it, to be taken one after the other."""
        counts: dict[str, int] = {}
        for node in self.graph.nodes:
            if node.op == "identity":
                self._alias[node.name] = self.source(node.inputs[0])
                continue
            for name in node.inputs:
                counts[self.source(name)] = counts.get(self.source(name), 0) + 1
        return {name: [name] if n < 2 else [f"{name}_split_{i}" for i in range(n)] for name, n in counts.items()}

    def source(self, name: str) -> str:
        """The tensor that a chain of identities copies."""
        return self._alias.get(name, name)

    def shape(self, name: str) -> Shape:
        """Shape in the graph's own order."""
        return self.graph.tensor(name).shape

    def get(self, name: str) -> str:
        """Blob of a tensor for one reader."""
        left = self._left[self.source(name)]
        return left.pop(0)

    def begin(self, name: str) -> None:
        """An input: NHWC of one image, or a vector."""
        self.layer("Input", name, [], dict(enumerate(blob_shape(self.shape(name), name))))

    def layer(self, kind: str, name: str, inputs: Sequence[str], parameters: Parameters) -> None:
        """One layer, whose output is `name`, and the Split behind it where several read it."""
        self._line(kind, name, inputs, [name], parameters)
        readers = self._left.get(name, [name])
        if len(readers) > 1:
            self._line("Split", f"{name}_split", [name], readers, {})

    def _line(
        self, kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], parameters: Parameters
    ) -> None:
        if any(" " in word for word in (name, *inputs, *outputs)):
            raise ToolError("ncnn's names hold no spaces", where=name)
        words = [f"{-23300 - key if _is_list(value) else key}={_text(value)}" for key, value in parameters.items()]
        self._lines.append(
            " ".join([f"{kind:<20}", f"{name:<24}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *words])
        )
        self._blobs += len(outputs)

    def weights(self, values: Array) -> None:
        """Weights with their tag: int8 padded to four bytes, else float32."""
        if values.dtype == np.int8:
            data = values.tobytes()
            self._weights.append(np.uint32(INT8_TAG).tobytes() + data + bytes(-len(data) % 4))
        else:
            self._weights.append(np.uint32(0).tobytes() + values.astype("<f4").tobytes())

    def numbers(self, values: Array | Iterable[float]) -> None:
        """Biases and scales: float32 without a tag."""
        self._weights.append(np.asarray(values, "<f4").tobytes())

    def refuse(self, node: Node, why: str) -> ToolError:
        """What a rule raises for a node that has no form in ncnn."""
        return ToolError(f"{node.op} cannot be written to ncnn", where=node.origin or node.name, why=why)

    def param(self) -> str:
        """Text of the .param file."""
        return "\n".join([MAGIC, f"{len(self._lines)} {self._blobs}", *self._lines]) + "\n"

    def binary(self) -> bytes:
        """Bytes of the .bin file."""
        return b"".join(self._weights)


def blob_shape(shape: Shape, where: str) -> tuple[int, ...]:
    """Width, height and channels of a map of one image; the length of a vector."""
    if len(shape) not in (2, 4) or shape[0] != 1:
        raise ToolError("ncnn takes one image at a time", where=where, why=f"shape {shape}")
    return (shape[1],) if len(shape) == 2 else (shape[2], shape[1], shape[3])


def _is_list(value: Number | Sequence[Number]) -> bool:
    return not isinstance(value, (int, float))


def _text(value: Number | Sequence[Number]) -> str:
    if isinstance(value, (int, float)):
        return repr(value)
    return ",".join([str(len(value)), *map(repr, value)])
