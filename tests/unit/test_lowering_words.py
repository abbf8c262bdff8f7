"""The emitted words, executed one after the other, against the integer reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lowwatt.compiler import Program, compile
from lowwatt.compiler.dram import CONSTANTS, Region
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.sim.execute import Executor
from lowwatt.sim.state import Memory
from lowwatt.types import Array, QuantParams
from small_detector import small_detector
from yolox_graph import quantized_graph


def _view(memory: Memory, region: Region) -> Array:
    strides = (region.row_bytes, region.pixel_bytes, 1)
    start = memory.dram[region.register][region.address :]
    return np.lib.stride_tricks.as_strided(start, (region.height, region.width, region.channels), strides)


def execute(program: Program, inputs: dict[str, Array], last: int | None = None) -> dict[str, Array]:
    """Outputs of a program of one segment, for one image, after its first `last` instructions."""
    (segment,) = program.segments
    memory = Memory(program.target, segment.dram.sizes)
    memory.dram[CONSTANTS][: len(segment.dram.constants)] = np.frombuffer(segment.dram.constants, np.int8)
    for name, value in inputs.items():
        region = segment.dram.regions[name]
        _view(memory, region)[...] = value.reshape(region.height, region.width, region.channels)
    executor = Executor(memory)
    for instruction in segment.instructions[:last]:
        executor.execute(instruction)
    return {name: _view(memory, segment.dram.regions[name]).copy() for name in program.graph.outputs}


@pytest.mark.parametrize("schedule", ["vendor", "best"])
@pytest.mark.parametrize("make", [quantized_graph, small_detector])
def test_words_compute_the_reference(make: Callable[[], Graph], schedule: str) -> None:
    graph = make()
    random = np.random.default_rng(7)
    inputs = {name: random.integers(-128, 128, graph.tensor(name).shape, np.int8) for name in graph.inputs}
    expected = interpreter.run(graph, inputs)
    found = execute(compile(graph, schedule=schedule), inputs)
    for name in graph.outputs:
        assert expected[name].any()
        assert np.array_equal(found[name].ravel(), expected[name].ravel()), name


@pytest.mark.parametrize("schedule", ["vendor", "best"])
@pytest.mark.parametrize(
    "pads, mode", [((1, 1, 1, 1), "symmetric"), ((1, 0, 0, 1), "symmetric"), ((2, 1, 0, 3), "constant")]
)
def test_a_border_is_a_constant_or_the_edge_mirrored(pads: tuple[int, ...], mode: str, schedule: str) -> None:
    graph, quant = Graph("border"), QuantParams.power_of_two(4)
    x = graph.add_input("x", (1, 5, 6, 16), quant)
    y = graph.add("max_pool", [x], "y", kernel=(2, 2), stride=(1, 1), quant=quant)
    z = graph.add("pad", [y], "z", pads=(0, 0, *pads, 0, 0), mode=mode, value=1.0, quant=quant)
    graph.outputs = [graph.add("max_pool", [z], "pool", kernel=(2, 2), stride=(1, 1), quant=quant)]
    inputs = {"x": np.random.default_rng(3).integers(-128, 128, (1, 5, 6, 16), np.int8)}
    found, expected = execute(compile(graph, schedule=schedule), inputs), interpreter.run(graph, inputs)
    assert np.array_equal(found["pool"].ravel(), expected["pool"].ravel())


def test_it_is_the_words_that_compute() -> None:
    graph = quantized_graph()
    inputs = {name: np.full(graph.tensor(name).shape, 50, np.int8) for name in graph.inputs}
    program, expected = compile(graph), interpreter.run(graph, inputs)
    half = execute(program, inputs, len(program.segments[0].instructions) // 2)
    assert not all(np.array_equal(half[name].ravel(), expected[name].ravel()) for name in graph.outputs)
