"""What the exporters share: what is exported, and the inputs on which it is proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.targets import Target

Inputs = Mapping[str, Array]
SAMPLES = 2
"""Random inputs on which an export is proved; the numerics are exact, so that one element off would show."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: a graph, the machine that it is meant for, and the program where the file holds one."""

    graph: Graph
    machine: str | Target
    program: Program | None = None


def need_quantized(graph: Graph, format: str) -> None:
    """ToolError where the graph is a float one. Some schemes leave an input in float, if no layer reads it."""
    if not graph.has_integers:
        raise ToolError(f"{format} needs a quantized graph", where=graph.name, hint="run `lowwatt quantize` first")


def random_inputs(graph: Graph) -> Sequence[Inputs]:
    """Seeded inputs over the whole range of each input: its integers where it is quantized, else 0…255."""
    generator = np.random.default_rng(0)
    return [{name: _noise(graph.tensor(name), generator) for name in graph.inputs} for _ in range(SAMPLES)]


def _noise(tensor: Tensor, generator: np.random.Generator) -> Array:
    low, high = (0, 255) if tensor.quant is None else (tensor.quant.qmin, tensor.quant.qmax)
    values = generator.integers(low, high, tensor.shape, endpoint=True).astype(np.float32)
    return values if tensor.quant is None else tensor.quant.dequantize(values)
