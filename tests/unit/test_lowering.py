"""The lowering's parts: banks, DRAM, tiling, legal graphs, tokens, the clock, schedules, costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.compiler import compile
from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.clock import Work, run, time_program, work_of
from lowwatt.compiler.dram import Lifetime, Region, allocate
from lowwatt.compiler.isa import ENGINES, ISA0, Instruction, balance
from lowwatt.compiler.isa.window import Reader
from lowwatt.compiler.lowering import lower
from lowwatt.compiler.lowering.build import Builder
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.lowering.legalize import legalize
from lowwatt.compiler.lowering.tiling import Tiler, tile
from lowwatt.compiler.segment import Segment
from lowwatt.compiler.subject import FeatureMap
from lowwatt.compiler.synchronise import Trace, synchronise
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target
from yolox_graph import yolox_graph

LPCV = load_target("ultra96v2-lpcv")
LOAD, SAVE, CONV, MISC = (ENGINES.index(name) for name in ("LOAD", "SAVE", "CONV", "MISC"))
COSTS = dataclasses.replace(
    LPCV.costs,
    load_ns=10,
    load_cycles=0,
    load_gb_s=1,
    save_ns=20,
    save_cycles=0,
    save_gb_s=1,
    misc_cycles=5,
    conv_cycles=0,
)


def network(side: int, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> Graph:
    """One convolution."""
    g = Graph("net")
    x = g.add_input("x", (1, side, side, inputs))
    w = g.add_constant("w", np.zeros((outputs, kernel, kernel, inputs), np.float32))
    g.outputs = [g.add("conv2d", [x, w], "conv", stride=(stride,) * 2, pad=(kernel // 2,) * 4)]
    return g


def layer_of(graph: Graph) -> Layer:
    return Builder(legalize(graph), LPCV, lambda layer: True).run()[0][0]


# -- where things lie -------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 4), st.integers(1, 20))
def test_rows_of_a_ring_lie_apart(pixels: int, stride: int, wraps: int, columns: int) -> None:
    ring = BankMap(0, pixels, 7, wraps, columns, 2, stride)
    places = [ring.place(row) for row in range(ring.rows)]
    words = {(bank, at + k) for bank, at in places for k in range(ring.row_words)}
    assert len(words) == ring.rows * ring.row_words
    assert {at for _, at in words} == set(range(7, 7 + ring.words))
    assert ring.place(ring.rows) == places[0]


def test_slots_that_one_instruction_reads_lie_in_different_banks() -> None:
    ring = BankMap(8, 8, 0, 3, 10, 1, stride=2)
    assert {ring.place(2 * slot)[0] for slot in range(5, 13)} == set(range(8, 16))
    assert ring.wrap_address(-1) == 0


blocks = st.builds(
    lambda name, size, first, length: Lifetime(name, size, first, first + length),
    st.uuids().map(str),
    st.integers(1, 1000),
    st.integers(0, 10),
    st.integers(0, 5),
)


@given(st.lists(blocks, max_size=12))
def test_blocks_needed_together_do_not_overlap(found: Sequence[Lifetime]) -> None:
    addresses, total = allocate(found)
    for one in found:
        assert addresses[one.name] % 16 == 0 and addresses[one.name] + one.bytes <= total
        for other in found:
            if other is not one and one.meets(other):
                low, high = sorted((one, other), key=lambda b: addresses[b.name])
                assert addresses[low.name] + low.bytes <= addresses[high.name]


def test_a_region_names_every_element() -> None:
    whole = Region.dense(1, 100, FeatureMap(4, 5, 6))
    assert whole.is_dense and whole.bytes == 120
    assert whole.at(1, 2, 3) == 100 + 30 + 12 + 3
    part = whole.part(2, 3)
    assert not part.is_dense and part.at(0, 0) == 102 and part.at(1, 0) == 132
    cut = whole.stretches(3, 8)
    assert [cut.at(row, 0) - 100 for row in range(3)] == [0, 48, 72]  # the last one is moved back to be full


# -- tiling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "columns", "chunk"),
    [
        ((8, 12, 12, 1, 1), 8, 1),  # all in one
        ((416, 12, 12, 3, 1), 416, 1),  # three wraps of 416 words
        ((26, 300, 300, 3, 1), 26, 9),  # 225 words a group of output channels: 9 fit, 25 are 9 + 9 + 7
        ((120, 300, 12, 3, 1), 24, 1),  # 25 words a column: 3 wraps of 27 columns fit into 2,048
    ],
)
def test_strips_and_chunks(shape: tuple[int, ...], columns: int, chunk: int) -> None:
    found = tile(layer_of(network(*shape)), LPCV)
    assert (found.columns, found.chunk) == (columns, chunk)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 120), st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2])
)
def test_what_is_tiled_fits(side: int, inputs: int, outputs: int, kernel: int, stride: int) -> None:
    layer = layer_of(network(side, inputs, outputs, kernel, min(stride, kernel)))
    found = tile(layer, LPCV)
    sizes = Tiler(layer, LPCV).sizes(found.columns, found.chunk)
    assert found.source_wraps * sizes.source <= LPCV.bank_depth
    assert found.grid_wraps * sizes.grid + found.sink_wraps * sizes.sink <= LPCV.bank_depth
    assert found.chunk * layer.source_groups(12) * kernel**2 <= LPCV.bank_depth
    assert 1 <= found.columns <= layer.sink.width


def test_a_layer_that_cannot_be_cut_is_named() -> None:
    shallow = dataclasses.replace(LPCV, bank_depth=300)
    with pytest.raises(ToolError, match="does not fit the image buffer") as error:
        tile(layer_of(network(64, 12 * 200, 12)), shallow)
    assert error.value.where == "conv"


# -- legal graphs -----------------------------------------------------------------------------------------------------


def test_legalizing_leaves_the_source_alone() -> None:
    g = network(8, 12, 12)
    g.nodes[0].attrs["activation"] = "hard_swish"
    legal = legalize(g)
    assert [node.op for node in legal.nodes] == ["conv2d", "hard_sigmoid", "mul"]
    assert len(g.nodes) == 1 and legal.outputs == g.outputs


def test_a_depthwise_multiplier_becomes_a_dense_kernel() -> None:
    g = Graph("net")
    x = g.add_input("x", (1, 8, 8, 3))
    w = g.add_constant("w", np.arange(2 * 9 * 3, dtype=np.float32).reshape(2, 3, 3, 3))
    g.outputs = [g.add("depthwise_conv2d", [x, w], "y", pad=(1, 1, 1, 1))]
    (node,) = legalize(g).nodes
    dense = legalize(g).tensor(node.inputs[1]).data
    assert node.op == "conv2d" and dense is not None and dense.shape == (6, 3, 3, 3)
    assert np.count_nonzero(dense) == 2 * 9 * 3 - 1  # arange starts at zero
    assert g.nodes[0].op == "depthwise_conv2d"


# -- the clock --------------------------------------------------------------------------------------------------------


def work(*rows: tuple[int, float, float, tuple[int, ...]]) -> Work:
    """Rows of engine, cycles, bytes, tokens."""
    engines, cycles, sizes, tokens = zip(*rows, strict=True)
    counts = np.ones(len(rows), bool)
    return Work(np.array(engines, np.int8), np.array(cycles, float), np.array(sizes, float), counts, tokens)


def test_an_instruction_waits_for_its_engine_and_its_tokens() -> None:
    times = run(
        work((LOAD, 0, 90, ()), (LOAD, 0, 40, ()), (CONV, 7, 0, (0,)), (MISC, 5, 0, (2,)), (SAVE, 0, 30, (3, 1))),
        COSTS,
        cycle_ns=10,
    )
    assert times.start.tolist() == [0, 100, 100, 170, 270]
    assert times.end.tolist() == [100, 150, 170, 270, 320]
    assert times.total == 320


def test_an_instruction_that_only_sets_up_takes_no_time() -> None:
    spec = ISA0.spec("CONVINIT")
    assert time_program([Instruction(spec, {"depends_on": 0, "depended_by": 0})], LPCV).total == 0


def test_a_token_that_nobody_posts_is_named() -> None:
    segment = lower(network(8, 12, 12), LPCV)
    silent = [Instruction(i.spec, {**i.values, "depended_by": 0}) for i in segment.instructions]
    with pytest.raises(ToolError, match="nobody posts"):
        work_of(silent)


# -- tokens and schedules ---------------------------------------------------------------------------------------------


def chain() -> Graph:
    """Convolutions, a pool and an addition, with maps that are read twice."""
    graph: Graph = yolox_graph(0.125, 64)
    return graph


def waits_of(segment: Segment) -> list[tuple[int, ...]]:
    return list(work_of(segment.instructions).tokens)


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_every_conflict_is_waited_for(schedule: str) -> None:
    """What tokens and engine order imply holds all that reading and writing need."""
    segment = lower(chain(), LPCV, schedule)
    reader, trace = Reader(LPCV), Trace(LPCV, segment.dram.sizes)
    done: list[list[int]] = []
    last = [-1] * len(ENGINES)
    for index, (one, tokens) in enumerate(zip(segment.instructions, waits_of(segment), strict=True)):
        engine, accesses = ENGINES.index(one.engine), reader.accesses(one)
        known = [-1] * len(ENGINES)
        for before in (*tokens, last[engine]):
            if before >= 0:
                known = [max(pair) for pair in zip(known, done[before], strict=True)]
        needed = trace.conflicts(accesses, engine)
        assert all(need <= have for need, have in zip(needed, known, strict=True)), index
        known[engine] = last[engine] = index
        done.append(known)
        trace.note(accesses, engine, index)


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_no_wait_is_implied_by_another(schedule: str) -> None:
    segment = lower(chain(), LPCV, schedule)
    done: list[list[int]] = []
    last = [-1] * len(ENGINES)
    for index, (one, tokens) in enumerate(zip(segment.instructions, waits_of(segment), strict=True)):
        engine = ENGINES.index(one.engine)
        known = list(done[last[engine]]) if last[engine] >= 0 else [-1] * len(ENGINES)
        for token in sorted(tokens, reverse=True):
            producer = ENGINES.index(segment.instructions[token].engine)
            assert known[producer] < token, index
            known = [max(pair) for pair in zip(known, done[token], strict=True)]
        known[engine] = last[engine] = index
        done.append(known)


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_tokens_are_balanced(schedule: str) -> None:
    balance(lower(chain(), LPCV, schedule).instructions)


def test_synchronising_again_changes_nothing() -> None:
    segment = lower(chain(), LPCV, "best")
    assert synchronise(segment.instructions, LPCV, segment.dram.sizes) == list(segment.instructions)


def test_best_keeps_the_order_of_every_engine_but_load() -> None:
    segment = lower(chain(), LPCV, "best")
    for engine in ("CONV", "MISC", "SAVE"):
        owners = [o for i, o in zip(segment.instructions, segment.owners, strict=True) if i.engine == engine]
        assert owners == sorted(owners)


def test_best_is_no_slower() -> None:
    for graph in (chain(), network(16, 24, 24, 3), network(52, 36, 72, 3, 2)):
        slow, fast = (compile(graph, schedule=schedule).dpu_ms for schedule in ("vendor", "best"))
        assert fast <= slow * (1 + 1e-9)


def test_an_unknown_schedule_is_answered_with_the_nearest() -> None:
    with pytest.raises(ToolError, match="unknown schedule") as error:
        lower(network(8, 12, 12), LPCV, "bset")
    assert "best" in str(error.value.hint)


# -- costs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_layers_add_up_to_the_program(schedule: str) -> None:
    program = compile(chain(), schedule=schedule)
    (segment,) = program.segments
    times = time_program(segment.instructions, LPCV)
    assert program.dpu_ms == pytest.approx(times.total / 1e6)
    for engine in ("load", "conv", "misc", "save"):
        cycles = sum(layer.cycles[engine] for layer in program.layers)
        mine = work_of(segment.instructions).engines == ENGINES.index(engine.upper())
        assert cycles * LPCV.cycle_ns == pytest.approx(times.duration[mine].sum(), rel=1e-4)
    assert max(layer.end_ms for layer in program.layers) == pytest.approx(program.dpu_ms)


def test_a_small_convolution_by_hand() -> None:
    """8x8x12 → 12 channels, 1x1: one tile, one CONV of 8 columns."""
    (layer,) = compile(network(8, 12, 12)).layers
    assert layer.cycles["conv"] == pytest.approx(8 + LPCV.costs.conv_cycles) and layer.cycles["misc"] == 0
    assert layer.save_bytes == 768 and layer.load_bytes >= 768 + 144
    assert layer.array_use == pytest.approx(8 * 8 * 144 / (8 * 1152))


def test_what_misc_multiplies_is_not_the_arrays() -> None:
    """8x8x12 → 12 channels, 1x1, then a depthwise 3x3 on MISC: 8 columns of a full array."""
    g = network(8, 12, 12)
    v = g.add_constant("v", np.zeros((1, 3, 3, 12), np.float32))
    g.outputs = [g.add("depthwise_conv2d", ["conv", v], "depthwise", pad=(1, 1, 1, 1))]
    (layer,) = compile(g).layers
    assert layer.op == "conv2d+depthwise_conv2d" and layer.macs == 64 * 144 + 64 * 9 * 12
    assert layer.array_use == 1.0
    peak = LPCV.array.macs_per_cycle / LPCV.cycle_ns * 1e6
    assert layer.utilisation == pytest.approx(64 * 144 / (peak * layer.ms))
    g = Graph("net")
    w = g.add_constant("w", np.zeros((1, 3, 3, 12), np.float32))
    g.outputs = [g.add("depthwise_conv2d", [g.add_input("x", (1, 8, 8, 12)), w], "y", pad=(1, 1, 1, 1))]
    (layer,) = compile(g).layers
    assert (layer.array_use, layer.utilisation) == (0, 0) and layer.macs == 64 * 9 * 12


def test_a_float_average_has_words_on_every_instruction_set() -> None:
    """A program of a float graph is for its times, but it can be saved and printed like any other."""
    g = Graph("net")
    x = g.add_input("x", (1, 8, 8, 12))
    g.outputs = [g.add("avg_pool", [x], "y", kernel=(7, 7), stride=(1, 1))]
    for machine in ("ultra96v2-lpcv", "kv260-vai3"):
        assert lower(g, load_target(machine)).code
