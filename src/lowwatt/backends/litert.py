"""LiteRT (TensorFlow Lite): graphs through a .tflite file of their own, and any such file as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from lowwatt.backends import litert_file
from lowwatt.backends.base import BackendStatus, graph_of, module_status, quants_of
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, tflite
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array, QuantParams

INSTALL = "pip install ai-edge-litert tflite"


class LiteRtBackend:
    """`source` is a Graph or Program, or the path of a .tflite file.

    A graph answers as on every other backend. A file answers under its own names and in its own formats; `graph`, the
    one that it was written from, gives it those of the graph. `threads` are those of XNNPACK, LiteRT's kernels for
    CPUs; without `xnnpack` its plain ones run. Values on a half may differ by a step from the integer reference.
    """

    name = "litert"

    def __init__(self, source: Any, *, threads: int = 1, xnnpack: bool = True, graph: Graph | None = None) -> None:
        given = None if isinstance(source, (str, Path)) else graph_of(source, self.name)
        self.status().require()
        self._lock = Lock()
        content, where = (litert_file.read(source), str(source)) if given is None else _written(given)
        self._interpreter = _opened(content, where, threads, xnnpack)
        self._given = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        self._made = {entry["name"]: entry for entry in self._interpreter.get_output_details()}
        self.graph = given or graph or self._described()
        self.inputs, self.outputs = tuple(self.graph.inputs), tuple(self.graph.outputs)
        self.quants: dict[str, QuantParams | None] = quants_of(self.graph)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        with self._lock:  # its tensors are the interpreter's own
            return interpreter.in_batches(self.graph, inputs, self._run)

    def _run(self, values: dict[str, Array]) -> dict[str, Array]:
        for name, value in values.items():
            entry = self._given[name]
            moved = value.astype(np.int64) + self._shift(name, entry) if self.quants[name] is not None else value
            self._interpreter.set_tensor(entry["index"], np.ascontiguousarray(moved, entry["dtype"]))
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ToolError("litert refused to run the network", why=str(error).strip()[:300]) from None
        return {name: self._result(name) for name in self.outputs}

    def _result(self, name: str) -> Array:
        entry, quant = self._made[name], self.quants[name]
        value = np.array(self._interpreter.get_tensor(entry["index"]))
        if quant is None:
            return value
        return (value.astype(np.int64) - self._shift(name, entry)).astype(quant.dtype)

    def _shift(self, name: str, entry: Mapping[str, Any]) -> int:
        """What the file adds to the graph's integers: unsigned ones are signed there."""
        quant = self.quants[name]
        return int(entry["quantization"][1]) - (0 if quant is None else quant.zero_point)

    def _described(self) -> Graph:
        """The ends of a file as those of a graph."""
        graph = Graph("tflite")
        for name, entry in self._given.items():
            graph.add_input(name, tuple(map(int, entry["shape"])), _format(entry))
        for name, entry in self._made.items():
            graph.tensors.setdefault(name, Tensor(name, tuple(map(int, entry["shape"])), quant=_format(entry)))
        graph.outputs = list(self._made)
        return graph

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether LiteRT is installed, and what its files are written with."""
        found = module_status(cls.name, "ai_edge_litert", INSTALL)
        return module_status(cls.name, "tflite", INSTALL) if found.usable else found


def _format(entry: Mapping[str, Any]) -> QuantParams | None:
    """Format of an end of a file; None where it is no 8 bits with a scale."""
    scale, zero = entry["quantization"]
    if entry["dtype"] not in (np.int8, np.uint8) or not scale:
        return None
    return QuantParams(float(scale), int(zero), signed=entry["dtype"] == np.int8, rounding="STD_ROUND")


def _written(graph: Graph) -> tuple[bytes, str]:
    return tflite.to_bytes(graph)[0], graph.name


def _opened(content: bytes, where: str, threads: int, xnnpack: bool) -> Any:
    from ai_edge_litert import interpreter as runtime

    kinds = runtime.OpResolverType
    kind = kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        found = runtime.Interpreter(model_content=content, num_threads=threads, experimental_op_resolver_type=kind)
        found.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ToolError("litert cannot open the model", where=where, why=str(error).strip()[:300]) from None
    return found
