"""Run a Program without the board: outputs from the integer reference, time and traffic from the Program.

Both will come from the machine's own instruction words once the compiler emits them; this is the interface they keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowwatt.compiler import LayerCost, Program
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
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
    return Simulation(interpreter.run(program.graph, inputs), tuple(program.layers))
