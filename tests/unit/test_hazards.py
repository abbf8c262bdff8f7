"""The checker of token order: silent on what the compiler makes, loud on programs that were spoiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lowwatt.compiler.isa import ENGINES, Instruction
from lowwatt.compiler.lowering import SCHEDULES, lower
from lowwatt.compiler.segment import Segment
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.sim.hazards import find_hazards
from lowwatt.sim.machine import run_words
from lowwatt.targets import Target, load_target
from yolox_graph import quantized_graph, yolox_graph

MACHINES = ("ultra96v2-lpcv", "kv260", "kv260-vai3")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_compiler_makes_is_safe(machine: str, schedule: str) -> None:
    target = load_target(machine)
    for graph in (quantized_graph(), yolox_graph(0.25, 96)):
        assert find_hazards(lower(graph, target, schedule), target) == []


def test_the_words_give_the_reference() -> None:
    target, graph = load_target("kv260"), quantized_graph()
    image = {"image": np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)}
    found = run_words(lower(graph, target, "best"), target, image)
    assert (found["pool"] == interpreter.run(graph, image)["pool"]).all()


def _without_tokens(segment: Segment, index: int) -> Segment:
    """The segment with an instruction that waits for nobody, and nobody posting to it."""
    changed = list(segment.instructions)
    own = 1 << ENGINES.index(changed[index].engine)
    taken = [k for k in range(len(ENGINES)) if changed[index].values["depends_on"] >> k & 1 and 1 << k != own]
    changed[index] = _with(changed[index], depends_on=own)
    for producer in taken:
        latest = max(
            k for k in range(index) if changed[k].engine == ENGINES[producer] and changed[k].values["depended_by"] & own
        )
        changed[latest] = _with(changed[latest], depended_by=changed[latest].values["depended_by"] & ~own)
    return replace(segment, instructions=changed)


def _with(instruction: Instruction, **values: int) -> Instruction:
    return Instruction(instruction.spec, {**instruction.values, **values})


def test_a_token_too_few_is_found() -> None:
    target = load_target("ultra96v2-lpcv")
    segment = lower(quantized_graph(), target, "best")
    waiting = [
        k
        for k, one in enumerate(segment.instructions)
        if one.name in ("CONV", "POOL", "ELEW", "SAVE") and len(one.depends_on) > 1
    ]
    assert waiting
    for index in waiting:
        assert _is_unsafe(_without_tokens(segment, index), target), index


def _is_unsafe(segment: Segment, target: Target) -> bool:
    """Found as a hazard, or as tokens that do not balance."""
    try:
        return bool(find_hazards(segment, target))
    except ToolError:
        return True


def test_a_moved_address_is_found() -> None:
    target = load_target("ultra96v2-lpcv")
    segment = lower(quantized_graph(), target)
    first = next(k for k, one in enumerate(segment.instructions) if one.name == "CONV")
    changed = list(segment.instructions)
    changed[first] = _with(changed[first], bank_addr_in=1000, bank_addr_in_1=1000)
    kinds = {hazard.kind for hazard in find_hazards(replace(segment, instructions=changed), target)}
    assert "read, and nothing was ever written there" in kinds
