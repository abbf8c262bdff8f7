"""Run an accelerator segment's own words: decode, load DRAM, execute, read the outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lowwatt.compiler.dram import CONSTANTS, Region
from lowwatt.compiler.isa import ISA0, ISA1, Instruction, decode, text
from lowwatt.compiler.segment import Segment
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.sim.execute import Executor
from lowwatt.sim.state import Bytes, Memory
from lowwatt.targets import Target
from lowwatt.types import Array


def run_words(segment: Segment, target: Target, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a segment by name, raw integers, image by image; `inputs` are real values or the integers themselves.

    ToolError where an instruction reads what was never written or leaves a memory: it names instruction and layer.
    """
    instructions = decode(segment.code, (ISA0, ISA1)[target.isa])
    return interpreter.in_batches(
        segment.graph, inputs, lambda values: _run_image(segment, target, instructions, values)
    )


def _run_image(
    segment: Segment, target: Target, instructions: list[Instruction], values: Mapping[str, Array]
) -> dict[str, Array]:
    memory = Memory(target, segment.dram.sizes)
    memory.dram[CONSTANTS][:] = np.frombuffer(segment.dram.constants, np.int8)
    for name, value in values.items():
        _bytes(memory, segment.dram.regions[name])[...] = value.ravel()
    executor = Executor(memory)
    for index, instruction in enumerate(instructions):
        try:
            executor.execute(instruction)
        except ToolError as error:
            layer = segment.layers[segment.owners[index]].name
            where = f"instruction {index} of layer {layer}: {text(instruction)}"
            raise ToolError(error.what, where=where, why=error.why) from None
    return {name: _output(segment, memory, name) for name in segment.graph.outputs}


def _bytes(memory: Memory, region: Region) -> Bytes:
    """A dense map's bytes."""
    return memory.dram[region.register][region.address : region.address + region.bytes]


def _output(segment: Segment, memory: Memory, name: str) -> Array:
    shape = segment.graph.tensor(name).shape
    return _bytes(memory, segment.dram.regions[name]).reshape(shape).copy()
