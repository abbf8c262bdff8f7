"""The proof of a compiled .xmodel: its own instruction words, run from the file, give the reference's integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.types import Array

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.xmodel_parts import Part, Place
    from lowwatt.ir.graph import Graph
    from lowwatt.sim.state import Memory


def prove_code(path: Path, program: Program, again: Graph, sample: Mapping[str, Array]) -> list[str]:
    """Lines that say what was compared; ToolError where the file's code is another, or gives another integer.

    `again` is the graph as it was read back from the file, `sample` an input of it by name, real values.
    """
    from lowwatt.compiler.xmodel_parts import read_parts

    parts, ours = read_parts(path), [segment for segment in program.segments if segment.side == "dpu"]
    for part, segment in zip(parts, ours, strict=True):
        if part.instructions != list(segment.instructions) or part.fingerprint != program.target.fingerprint:
            raise ToolError("the xmodel holds other code than the program", where=part.name, hint=_REPORT)
    values = _values(again, sample)
    elements = sum(_run(part, program, values) for part in parts)
    count = sum(len(part.instructions) for part in parts)
    return [
        f"code read back: {count} instructions in {len(parts)} subgraphs, as in the program, for fingerprint "
        f"{program.target.fingerprint:#x}",
        f"run from the file on the simulator: {elements} elements that leave the accelerator, 0 differ",
    ]


_REPORT = "please report this graph"


def _values(graph: Graph, sample: Mapping[str, Array]) -> dict[str, Array]:
    """Integers of every operator of the file, by its name there."""
    from lowwatt.ir.arithmetic import quantize
    from lowwatt.ir.interpreter import execute

    inputs = {name: (graph.tensor(name).quant, array) for name, array in sample.items()}
    given = {name: quantize(array, quant) for name, (quant, array) in inputs.items() if quant is not None}
    values = {**given, **execute(graph, sample)}
    return values | {op: values[name] for name, op in graph.meta["xmodel"].items() if name in values}


def _run(part: Part, program: Program, values: Mapping[str, Array]) -> int:
    """Run a part on its inputs and compare its outputs; returns how many elements these have."""
    from lowwatt.sim.execute import Executor
    from lowwatt.sim.state import Memory

    memory = Memory(program.target, part.sizes, part.constants)
    for name, place in part.inputs.items():
        _at(memory, place)[...] = values[name][0]
    executor = Executor(memory)
    for instruction in part.instructions:
        executor.execute(instruction)
    for name, place in part.outputs.items():
        if not np.array_equal(_at(memory, place), values[name][0]):
            raise ToolError("the xmodel's code gives other integers than the reference", where=name, hint=_REPORT)
    return sum(_at(memory, place).size for place in part.outputs.values())


def _at(memory: Memory, place: Place) -> Array:
    """A map in DRAM, to read and write."""
    return memory.map(place.register, place.address, place.shape, place.stride)
