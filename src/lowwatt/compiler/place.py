"""Place: a node that a rewrite looks at, in a graph that it may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.targets import Target
from lowwatt.types import Array, QuantParams, Shape


class NoMatch(Exception):
    """The rewrite does not fit this node; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node, its graph, and the machine for which it is rewritten."""

    graph: Graph
    node: Node
    target: Target

    def require(self, condition: bool, why: str) -> None:
        """NoMatch with that reason where the condition does not hold."""
        if not condition:
            raise NoMatch(why)

    @property
    def quantized(self) -> bool:
        """True in a quantized graph, where only what keeps every integer may change."""
        return self.graph.has_integers

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input."""
        return self.graph.tensor(self.node.inputs[index]).shape

    @property
    def output(self) -> Shape:
        """Shape of the output."""
        return self.graph.tensor(self.node.name).shape

    def quant(self, index: int = 0) -> QuantParams | None:
        """Quantization of an input."""
        return self.graph.tensor(self.node.inputs[index]).quant

    def data(self, index: int) -> Array:
        """Values of an input that must be a constant."""
        data = self.graph.tensor(self.node.inputs[index]).data
        if data is None:
            raise NoMatch("its operand is no constant")
        return data

    def sole_reader(self, name: str) -> Node:
        """The one node that reads a tensor, which nobody outside sees."""
        readers = [node for node in self.graph.nodes if name in node.inputs]
        self.require(len(readers) == 1 and name not in self.graph.outputs, "others read it too")
        return readers[0]

    # -- changing ------------------------------------------------------------------------------------------

    def put(self, op: str, inputs: Sequence[str], quant: QuantParams | None, **attrs: Any) -> str:
        """An operator in front of the node; one that is there already and does the same serves as well."""
        full = spec(op).complete(attrs, where=self.node.name)
        for known in self.graph.nodes[: self.graph.nodes.index(self.node)]:
            same = known.op == op and known.inputs == list(inputs) and known.attrs == full
            if same and self.graph.tensor(known.name).quant == quant:
                return known.name
        return self.graph.insert(self.node, op, inputs, self._fresh(op), quant=quant, **attrs)

    def constant(self, data: Array, quant: QuantParams | None) -> str:
        """A constant: integers where `quant` is given, else float32."""
        values = data.astype(np.float32 if quant is None else quant.dtype)
        return self.graph.add_constant(self._fresh("constant"), np.ascontiguousarray(values), quant)

    def _fresh(self, word: str) -> str:
        number = 1
        while (name := f"{self.node.name}.{word}{number}") in self.graph.tensors:
            number += 1
        return name
