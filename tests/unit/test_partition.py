"""Partition: as few parts and crossings as a search through all choices finds, and parts that run like the whole."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowwatt.compiler.crossings import crossings, settle
from lowwatt.compiler.partition import Part, demote, partition, run_parts
from lowwatt.compiler.rules import Verdict, check
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target
from lowwatt.types import QuantParams

LPCV = load_target("ultra96v2-lpcv")
Q = QuantParams.power_of_two(3)
Sides = dict[str, str]


@st.composite
def dags(draw: st.DrawFn, most: int = 7) -> tuple[Graph, Sides]:
    """A quantized graph of additions in any shape, and a side for each node."""
    graph, sides = Graph("dag"), {}
    graph.add_input("x", (1, 3), Q)
    for index in range(draw(st.integers(1, most))):
        names = ["x", *sides]
        operands = draw(st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=False))
        sides[graph.add("add", operands, f"n{index}", quant=Q)] = draw(st.sampled_from(("dpu", "host")))
    read = {name for node in graph.nodes for name in node.inputs}
    graph.outputs = [name for name in sides if name not in read]
    return graph, sides


def verdicts_of(graph: Graph, sides: Mapping[str, str]) -> list[Verdict]:
    return [Verdict(n.name, n.op, "dpu" if sides[n.name] == "dpu" else "host") for n in graph.nodes]


def fewest_parts(graph: Graph, sides: Mapping[str, str]) -> int:
    """Least number of runs of one side over all orders of execution: a search through all sets of finished nodes."""
    needs = {n.name: {i for i in n.inputs if i in sides} for n in graph.nodes}
    best: dict[tuple[frozenset[str], str], int] = {(frozenset(), ""): 0}
    for _ in needs:
        longer: dict[tuple[frozenset[str], str], int] = {}
        for (done, last), count in best.items():
            for name in set(needs) - done:
                if needs[name] <= done:
                    key = (done | {name}, sides[name])
                    longer[key] = min(longer.get(key, 99), count + (sides[name] != last))
        best = longer
    return min(best.values())


@given(dags())
def test_no_order_needs_fewer_parts(case: tuple[Graph, Sides]) -> None:
    graph, sides = case
    parts = partition(graph, verdicts_of(graph, sides))
    assert len(parts) == fewest_parts(graph, sides)
    assert all(a.side != b.side for a, b in itertools.pairwise(parts))


@given(dags(12))
def test_each_node_is_in_one_part_and_needs_earlier_ones_alone(case: tuple[Graph, Sides]) -> None:
    graph, sides = case
    known, seen = set(graph.inputs), []
    for part in partition(graph, verdicts_of(graph, sides)):
        part.graph.verify()
        assert set(part.graph.inputs) <= known and part.graph.outputs
        assert {sides[node.name] for node in part.graph.nodes} == {part.side}
        known.update(part.graph.outputs)
        seen += [node.name for node in part.graph.nodes]
    assert sorted(seen) == sorted(sides) and set(graph.outputs) <= known


@given(dags(10), st.integers(0, 2**31))
def test_parts_run_like_the_whole(case: tuple[Graph, Sides], seed: int) -> None:
    graph, sides = case
    x = np.random.default_rng(seed).integers(-128, 128, (2, 3)).astype(np.int8)
    parts = partition(graph, verdicts_of(graph, sides))
    found = run_parts(graph, parts, {"x": x}, interpreter.run, interpreter.run)
    for name, value in interpreter.run(graph, {"x": x}).items():
        np.testing.assert_array_equal(found[name], value)


@given(dags(), st.data())
def test_no_choice_of_sides_makes_fewer_crossings(case: tuple[Graph, Sides], data: st.DataObject) -> None:
    graph, sides = case
    free = data.draw(st.lists(st.sampled_from(list(sides)), unique=True))
    settled = settle(graph, sides, free)
    assert all(settled[name] == side for name, side in sides.items() if name not in free)
    choices = [
        {**sides, **dict(zip(free, choice, strict=True))}
        for choice in itertools.product(("dpu", "host"), repeat=len(free))
    ]

    def cost(where: Mapping[str, str]) -> tuple[int, int]:
        return len(crossings(graph, where)), sum(where[name] != sides[name] for name in free)

    assert cost(settled) == min(map(cost, choices))


def block(middle: str, **attrs: object) -> Graph:
    """conv → `middle` → reshape, slice → conv, float."""
    graph = Graph("block")
    weights = graph.add_constant("w", np.ones((8, 1, 1, 8), np.float32))
    a = graph.add("conv2d", [graph.add_input("x", (1, 4, 4, 8)), weights], "a")
    b = graph.add(middle, [a], "b", **attrs)
    c = graph.add("reshape", [b], "c", shape=(1, 2, 8, 8))
    graph.outputs = [graph.add("conv2d", [c, weights], "d")]
    return graph


def sides_of(parts: list[Part]) -> list[tuple[str, list[str]]]:
    return [(part.side, [node.name for node in part.graph.nodes]) for part in parts]


def test_a_move_between_two_sides_stays_with_the_accelerator() -> None:
    graph = block("softmax", axis=3)
    parts = partition(graph, check(graph, LPCV))
    assert sides_of(parts) == [("dpu", ["a"]), ("host", ["b"]), ("dpu", ["c", "d"])]
    assert "w" in parts[0].graph.tensors and "w" in parts[2].graph.tensors and "w" not in parts[1].graph.tensors


def test_moves_follow_the_side_that_saves_a_crossing() -> None:
    """Two slices of what the host made are one crossing on the accelerator; a concat of three host maps is one on the
    host."""
    graph = Graph()
    x = graph.add_input("x", (1, 4, 4, 8))
    weights = graph.add_constant("w", np.ones((8, 1, 1, 8), np.float32))
    low, high = {"begin": (0, 0, 0, 0), "end": (1, 4, 4, 4)}, {"begin": (0, 0, 0, 4), "end": (1, 4, 4, 8)}
    a = graph.add("silu", [graph.add("conv2d", [x, weights], "a")], "a_act")
    cut = [graph.add("slice", [a], f"cut{i}", strides=(1,) * 4, **ends) for i, ends in enumerate((low, high))]
    half = graph.add_constant("half", np.ones((8, 1, 1, 4), np.float32))
    branches = [graph.add("conv2d", [c, half], f"{c}_conv") for c in cut]
    acts = [graph.add("silu", [b], f"{b}_act") for b in branches]
    joined = graph.add("concat", acts, "joined", axis=3)
    graph.outputs = [graph.add("conv2d", [joined, graph.add_constant("v", np.ones((4, 1, 1, 16), np.float32))], "last")]
    where = {v.node: v for v in check(graph, LPCV)}
    assert where["cut0"].where == where["cut1"].where == "dpu"
    assert where["joined"].where == "host" and "saves a crossing" in where["joined"].reasons[0]
    assert len(partition(graph, list(where.values()))) == 5


def test_small_islands_go_to_the_host_only_when_asked_for() -> None:
    graph = block("softmax", axis=3)
    verdicts = check(graph, LPCV)
    assert demote(graph, verdicts, 0) == verdicts
    all_host = demote(graph, verdicts, 4 * 4 * 8 * 8 + 1)
    assert sides_of(partition(graph, all_host)) == [("host", ["a", "b", "c", "d"])]
    assert "1024 multiply-accumulates, fewer than the 1025" in all_host[0].reasons[0]


def test_an_output_that_is_an_input_or_a_constant_comes_through() -> None:
    graph = block("softmax", axis=3)
    graph.outputs += ["x", "w"]
    x = np.zeros((1, 4, 4, 8), np.float32)
    parts = partition(graph, check(graph, LPCV))
    found = run_parts(graph, parts, {"x": x}, _zeros, _zeros)
    assert list(found) == graph.outputs and found["x"] is x
    with pytest.raises(ToolError, match="input is missing"):
        run_parts(graph, parts, {}, _zeros, _zeros)


def _zeros(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.zeros(graph.tensor(name).shape, np.float32) for name in graph.outputs}
