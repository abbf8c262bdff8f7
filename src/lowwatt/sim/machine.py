"""Run an accelerator segment's own words: decode, load DRAM, execute, read the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lowwatt.compiler.dram import CONSTANTS, Region
from lowwatt.compiler.isa import ISA0, ISA1, Instruction, decode, text
from lowwatt.compiler.segment import Segment
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.sim.execute import Executor
from lowwatt.sim.state import Bytes, Memory
from lowwatt.targets import Target
from lowwatt.types import Array


def run_words(
    segment: Segment, target: Target, inputs: Mapping[str, Array], order: Sequence[int] | None = None
) -> dict[str, Array]:
    """Outputs of a segment by name, raw integers, image by image; `inputs` are real values or the integers themselves.

    `order`: positions of the instructions in the order of execution (`isa.legal_order`), else one after another.
    When each would run on the machine says `compiler.clock.time_program`. ToolError where an instruction reads what was
    never written or leaves a memory: it names instruction and layer.

    >>> import numpy as np
    >>> from lowwatt.compiler.lowering import lower
    >>> from lowwatt.ir.graph import Graph
    >>> from lowwatt.targets import load_target
    >>> from lowwatt.types import QuantParams
    >>> g, q, target = Graph("tiny"), QuantParams.power_of_two(0), load_target("kv260")
    >>> x = g.add_input("x", (1, 2, 2, 1), q)
    >>> g.outputs = [g.add("max_pool", [x], "y", kernel=(2, 2), stride=(2, 2), quant=q)]
    >>> run_words(lower(g, target), target, {"x": np.arange(4.0).reshape(1, 2, 2, 1)})["y"].item()
    3
    """
    instructions = decode(segment.code, (ISA0, ISA1)[target.isa])
    positions = range(len(instructions)) if order is None else order
    return interpreter.in_batches(
        segment.graph, inputs, lambda values: _run_image(segment, target, instructions, positions, values)
    )


def _run_image(
    segment: Segment,
    target: Target,
    instructions: Sequence[Instruction],
    order: Sequence[int],
    values: Mapping[str, Array],
) -> dict[str, Array]:
    regions = segment.dram.regions
    memory = Memory(target, segment.dram.sizes, {CONSTANTS: segment.dram.constants})
    for name, value in values.items():
        there = _map(memory, regions[name])
        there[...] = value.reshape(there.shape)
    executor = Executor(memory)
    for index in order:
        try:
            executor.execute(instructions[index])
        except ToolError as error:
            layer = segment.layers[segment.owners[index]].name
            where = f"instruction {index} of layer {layer}: {text(instructions[index])}"
            raise ToolError(error.what, where=where, why=error.why) from None
    shapes = {name: segment.graph.tensor(name).shape for name in segment.graph.outputs}
    return {name: _map(memory, regions[name]).reshape(shape).copy() for name, shape in shapes.items()}


def _map(memory: Memory, region: Region) -> Bytes:
    """A map [height, width, channels] in DRAM, to read and write."""
    shape, stride = (region.height, region.width, region.channels), (region.row_bytes, region.pixel_bytes, 1)
    return memory.map(region.register, region.address, shape, stride)
