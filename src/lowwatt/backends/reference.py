"""The integer reference in NumPy: slow, and right by definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lowwatt.backends.base import BackendStatus, quantized_graph_of, quants_of
from lowwatt.ir import interpreter
from lowwatt.types import Array


class ReferenceBackend:
    """Runs a quantized Graph (or a Program's) node by node through `lowwatt.ir.interpreter`."""

    name = "reference"

    def __init__(self, source: Any) -> None:
        self.graph = quantized_graph_of(source, self.name)
        self.inputs, self.outputs = tuple(self.graph.inputs), tuple(self.graph.outputs)
        self.quants = quants_of(self.graph)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers."""
        return interpreter.run(self.graph, inputs)

    @classmethod
    def status(cls) -> BackendStatus:
        """Always."""
        return BackendStatus(cls.name, True, "NumPy")
