"""Run a Program without the board: accelerator segments on their own instruction words, the others as the host does.

Time and traffic are the Program's rows, which come from the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowwatt.compiler.costs import LayerCost
from lowwatt.compiler.partition import Part, run_parts
from lowwatt.compiler.program import Program
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.sim.machine import run_words
from lowwatt.types import Array


@dataclass(frozen=True, slots=True)
class Simulation:
    """Outputs (raw integers by name) and the cost of each layer for one image."""

    outputs: dict[str, Array]
    layers: tuple[LayerCost, ...]

    @property
    def cycles(self) -> dict[str, float]:
        """Clock cycles that each engine works, over all layers."""
        total: dict[str, float] = {}
        for layer in self.layers:
            for engine, cycles in layer.cycles.items():
                total[engine] = total.get(engine, 0.0) + cycles
        return total


def simulate(program: Program, inputs: Mapping[str, Array]) -> Simulation:
    """Run a program of a quantized graph on inputs by name (real values or the integers themselves).

    ToolError for a float graph, and for inputs that do not fit.

    >>> from lowwatt.compiler import compile
    >>> from lowwatt.ir.graph import Graph
    >>> from lowwatt.types import QuantParams
    >>> import numpy as np
    >>> g = Graph("tiny")
    >>> x = g.add_input("x", (1, 2, 2, 1), QuantParams.power_of_two(0))
    >>> pool = dict(kernel=(2, 2), stride=(2, 2), quant=QuantParams.power_of_two(0))
    >>> g.outputs = [g.add("max_pool", [x], "y", **pool)]
    >>> simulate(compile(g), {"x": np.arange(4.0).reshape(1, 2, 2, 1)}).outputs["y"].item()
    3
    """
    if not program.graph.is_quantized:
        raise ToolError(
            "a float program cannot be simulated", where=program.graph.name, hint="lowwatt quantize it, then compile"
        )
    parts = [Part(segment.side, segment.graph) for segment in program.segments]
    segments = {id(segment.graph): segment for segment in program.segments}

    def run_dpu(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
        return run_words(segments[id(graph)], program.target, values)

    outputs = run_parts(program.graph, parts, inputs, run_dpu, interpreter.run)
    return Simulation(outputs, tuple(program.layers))
