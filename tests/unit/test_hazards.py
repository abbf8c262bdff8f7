"""The checker of hazards: silent on what the compiler makes, loud on programs that were spoiled."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lowwatt.compiler.isa import ENGINES, Instruction, legal_order
from lowwatt.compiler.lowering import SCHEDULES, lower, tiling
from lowwatt.compiler.partition import partition
from lowwatt.compiler.rules import check
from lowwatt.compiler.segment import Segment
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel import read
from lowwatt.sim import hazards
from lowwatt.sim.genuine import genuine_programs
from lowwatt.sim.hazards import find_hazards
from lowwatt.sim.machine import run_words
from lowwatt.targets import Target, load_target
from lowwatt.types import Array, QuantParams
from small_detector import small_detector
from yolox_graph import quantized_graph, yolox_graph

MACHINES = ("ultra96v2-lpcv", "kv260", "kv260-vai3", "DPUCZDX8G_ISA0_B512_MAX")
LPCV = load_target("ultra96v2-lpcv")


def conv_graph(side: int = 24, channels: int = 16) -> Graph:
    """A 3x3 convolution, a pool and an addition, so that all four engines work and every ring goes round."""
    graph, noise, q = Graph("three"), np.random.default_rng(3), QuantParams.power_of_two(4)
    x = graph.add_input("x", (1, side, side, channels), q)
    for name in ("a", "b"):
        graph.add_constant(f"{name}_w", noise.integers(-9, 9, (channels, 3, 3, channels)).astype(np.int8), q)
        conv = graph.add("conv2d", [x, f"{name}_w"], name, stride=(1, 1), pad=(1, 1, 1, 1), activation="relu", quant=q)
        x = graph.add("add", [conv, x], f"{name}_sum", quant=q)
    graph.outputs = [graph.add("max_pool", [x], "pool", kernel=(2, 2), stride=(2, 2), quant=q)]
    return graph


def inputs_of(graph: Graph) -> dict[str, Array]:
    noise = np.random.default_rng(0)
    return {name: noise.integers(-128, 128, graph.tensor(name).shape).astype(np.int8) for name in graph.inputs}


# -- clean ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_compiler_makes_is_safe(machine: str, schedule: str) -> None:
    target = load_target(machine)
    for graph in (quantized_graph(), small_detector(), conv_graph(), yolox_graph(0.25, 96)):
        assert find_hazards(lower(graph, target, schedule), target) == []


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_every_golden_graph_is_safe(shared: Path, machine: str) -> None:
    target = load_target(machine)
    for folder in sorted((shared / "golden").glob("case*")):
        graph = read(folder / "model.xmodel")
        for part in partition(graph, check(graph, target)):
            for schedule in SCHEDULES if part.side == "dpu" else ():
                assert find_hazards(lower(part.graph, target, schedule), target) == [], folder.name


@pytest.mark.parametrize("version", ["2.5", "3.0"])
def test_genuine_programs_are_safe(shared: Path, version: str) -> None:
    for program in genuine_programs(shared / "golden" / "real" / f"tf2_zcu102_v{version}.xmodel"):
        if not program.layer:  # these begin with what a layer before would have saved
            assert hazards.check(program.instructions, program.target, program.sizes) == []


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("machine", MACHINES[:3])
def test_any_order_that_the_tokens_allow_gives_the_same(machine: str, schedule: str) -> None:
    target = load_target(machine)
    for graph in (conv_graph(), small_detector()):
        segment, inputs = lower(graph, target, schedule), inputs_of(graph)
        expected, orders = interpreter.run(graph, inputs), set()
        for seed in range(6):
            order = legal_order(segment.instructions, random.Random(seed).choice)
            assert not order.stuck
            orders.add(tuple(order.indices))
            found = run_words(segment, target, inputs, order.indices)
            assert all(np.array_equal(found[name], expected[name]) for name in graph.outputs)
        eager = legal_order(segment.instructions, max).indices
        assert len(orders | {tuple(eager)}) >= 5
        assert all(np.array_equal(run_words(segment, target, inputs, eager)[n], expected[n]) for n in graph.outputs)


# -- spoiled ----------------------------------------------------------------------------------------------------


def spoil(segment: Segment, index: int, **values: int) -> Segment:
    """The segment with raw values of one instruction changed."""
    one = segment.instructions[index]
    changed = [*segment.instructions[:index], Instruction(one.spec, {**one.values, **values})]
    return replace(segment, instructions=[*changed, *segment.instructions[index + 1 :]])


def tokens_of(segment: Segment) -> Iterator[tuple[int, int]]:
    """Every token that is taken: who posts, who takes."""
    order = legal_order(segment.instructions)
    return ((poster, index) for index in order.indices for poster in order.posters[index])


def without(segment: Segment, poster: int, taker: int) -> Segment:
    """The segment without a token, at both ends."""
    bits = [1 << ENGINES.index(segment.instructions[k].engine) for k in (poster, taker)]
    told, waited = segment.instructions[poster].values["depended_by"], segment.instructions[taker].values["depends_on"]
    return spoil(spoil(segment, poster, depended_by=told & ~bits[1]), taker, depends_on=waited & ~bits[0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_token_is_needed(schedule: str) -> None:
    """Of the tokens that order reads and writes not one can be left out. (In `vendor` some only drain.)"""
    segment = lower(conv_graph(), LPCV, schedule)
    missed = [pair for pair in tokens_of(segment) if not find_hazards(without(segment, *pair), LPCV)]
    assert [pair for pair in missed if not _drains(segment, *pair)] == []


def _drains(segment: Segment, poster: int, taker: int) -> bool:
    """True for a token between two layers."""
    return segment.owners[poster] != segment.owners[taker]


@pytest.mark.parametrize("mask", ["depends_on", "depended_by"])
def test_half_a_token_is_found(mask: str) -> None:
    segment = lower(conv_graph(), LPCV, "best")
    for pair in list(tokens_of(segment))[::5]:
        poster, taker = pair
        index, other = (taker, poster) if mask == "depends_on" else (poster, taker)
        bit = 1 << ENGINES.index(segment.instructions[other].engine)
        spoiled = spoil(segment, index, **{mask: segment.instructions[index].values[mask] & ~bit})
        kinds = {hazard.kind for hazard in find_hazards(spoiled, LPCV)}
        assert any("token" in kind for kind in kinds)


ADDRESSES = [
    ("CONV", "bank_addr_in", 700),
    ("CONV", "bank_addr_out", 700),
    ("CONV", "bank_addr_weights", 700),
    ("CONV", "bank_addr_bias", 7),
    ("POOL", "bank_addr_in", 700),
    ("POOL", "bank_addr_out", 700),
    ("ELEW", "bank_addr_out", 700),
    ("ELEWINIT", "bank_addr_in", 700),
    ("LOAD", "bank_addr", 700),
    ("SAVE", "bank_addr", 700),
    ("LOAD", "bank_id", 3),
    ("SAVE", "bank_id", 3),
    ("CONV", "bank_id_out", 40),
    ("LOAD", "ddr_addr", 1 << 20),
    ("SAVE", "ddr_addr", 1 << 20),
    ("SAVE", "ddr_addr", 96),
    ("CONV", "bank_addr_in_3", 2048),
    ("SAVE", "reg_id", -1),
]


@pytest.mark.parametrize(("name", "field", "step"), ADDRESSES)
def test_a_moved_address_is_found(name: str, field: str, step: int) -> None:
    segment = lower(conv_graph(), LPCV)
    indices = [k for k, one in enumerate(segment.instructions) if one.name == name]
    for index in (indices[0], indices[len(indices) // 2]):
        value = segment.instructions[index].values[field] + step
        found = find_hazards(spoil(segment, index, **{field: value}), LPCV)
        assert found, index


def test_swapped_instructions_are_found_or_give_the_same() -> None:
    """Each neighbour of one engine swapped with the next: found, or in any order of execution nothing changes."""
    graph = conv_graph(12, 8)
    segment, inputs = lower(graph, LPCV, "best"), inputs_of(graph)
    expected, found = interpreter.run(graph, inputs)["pool"], 0
    for first, second in _neighbours(segment):
        changed = list(segment.instructions)
        changed[first], changed[second] = changed[second], changed[first]
        spoiled = replace(segment, instructions=changed)
        if find_hazards(spoiled, LPCV):
            found += 1
            continue
        for choose in (min, max):
            order = legal_order(changed, choose).indices
            assert np.array_equal(run_words(spoiled, LPCV, inputs, order)["pool"], expected), (first, second)
    assert found > 20


def _neighbours(segment: Segment) -> Iterator[tuple[int, int]]:
    """Instructions of one engine that follow one another, within a layer; an INIT sets what the next one reads."""
    last: dict[str, int] = {}
    for index, one in enumerate(segment.instructions):
        before = last.get(one.engine)
        if before is not None and segment.owners[before] == segment.owners[index] and not _sets(segment, before, index):
            yield before, index
        last[one.engine] = index


def _sets(segment: Segment, *indices: int) -> bool:
    return any(segment.instructions[k].name.endswith(("INIT", "END")) for k in indices)


def test_a_ring_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(layer: object, target: Target) -> tiling.Tiling:
        return replace(tiling.tile(layer, target), source_wraps=1)  # type: ignore[arg-type]

    assert find_hazards(lower(conv_graph(), LPCV), LPCV) == []
    monkeypatch.setattr("lowwatt.compiler.lowering.tile", small)
    kinds = {hazard.kind for hazard in find_hazards(lower(conv_graph(), LPCV), LPCV)}
    assert "writes what nobody reads" in kinds


def test_a_finding_says_who_and_where() -> None:
    segment = lower(conv_graph(), LPCV, "best")
    pair = next(pair for pair in tokens_of(segment) if segment.instructions[pair[1]].name == "CONV")
    hazard = find_hazards(without(segment, *pair), LPCV)[0]
    assert (hazard.kind, hazard.instruction) == ("reads before it is written", pair[1])
    assert hazard.other is not None
    for index in (hazard.instruction, hazard.other):
        assert f"instruction {index} at byte 0x" in hazard.message
    assert "of layer a" in hazard.message
    assert "bank_addr_weights" in hazard.message
