"""What is worked out of a program for those who look at it: waits, banks, losses, sums, and the terminal's tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lowwatt.cli.layers import change_table, gains, layer_table, total_lines
from lowwatt.compiler import Program, compile
from lowwatt.compiler.clock import Times, Work
from lowwatt.compiler.details import LayerDetail, detailed_json, details, totals
from lowwatt.compiler.idle import idle_parts
from lowwatt.compiler.isa import ENGINES
from lowwatt.compiler.losses import REASONS
from lowwatt.errors import ToolError
from lowwatt.evaluate.comparison import compare_programs
from lowwatt.evaluate.energy import assumed_energy, energy_lines
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target
from yolox_graph import yolox_graph

LPCV = load_target("ultra96v2-lpcv")
LOAD, SAVE, CONV, MISC = (ENGINES.index(name) for name in ("LOAD", "SAVE", "CONV", "MISC"))
SCHEDULES = ["vendor", "best"]


def convolution(side: int, inputs: int, outputs: int, kernel: int = 1, target: str = "ultra96v2-lpcv") -> Program:
    g = Graph("net")
    x = g.add_input("x", (1, side, side, inputs))
    w = g.add_constant("w", np.zeros((outputs, kernel, kernel, inputs), np.float32))
    g.outputs = [g.add("conv2d", [x, w], "conv", pad=(kernel // 2,) * 4)]
    return compile(g, target)


def found_of(program: Program) -> dict[str, float]:
    """Losses of the first layer by their short names."""
    return {loss.short: loss.share for loss in details(program)[0].losses}


# -- waits ------------------------------------------------------------------------------------------------------------


def test_waits_by_hand() -> None:
    """Layer 0: LOAD 0-10, CONV 10-30, a second LOAD till 50, CONV 50-60; layer 1: its CONV waits for MISC, till 70."""
    engines = np.array([LOAD, CONV, LOAD, CONV, MISC, CONV, CONV, SAVE], np.int8)
    start = np.array([0, 10, 10, 50, 60, 60, 75, 80.0])
    end = np.array([10, 30, 50, 60, 75, 65, 80, 90.0])
    tokens = [(), (0,), (), (2,), (3,), (), (4,), (6,)]
    work = Work(engines, end - start, 0 * start, np.ones(8, np.bool_), tokens)
    parts = idle_parts([0, 0, 0, 0, 0, 1, 1, 1], work, Times(start, end, end - start), np.array([0, 60, 90.0]))
    assert parts[0] == {"load": 20, "misc": 0, "save": 0, "between": 10}
    assert parts[1] == {"load": 0, "misc": 10, "save": 0, "between": 10}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_waits_and_work_fill_the_time(schedule: str) -> None:
    program = compile(yolox_graph(0.25, 160), schedule=schedule)
    rows, found = program.layers, details(program)
    waited = sum(row.ms * sum(more.waits.values()) for row, more in zip(rows, found, strict=True))
    worked = sum(row.cycles["conv"] for row in rows) * program.target.cycle_ns / 1e6
    assert waited + worked == pytest.approx(program.dpu_ms, rel=1e-6)
    assert all(-1e-9 <= share <= 1 + 1e-9 for more in found for share in more.waits.values())


# -- what a layer touches ---------------------------------------------------------------------------------------------


def test_banks_and_bytes_by_hand() -> None:
    """8x8x12 → 24 channels, 1x1: rows of 8 words in, 16 out, in 8 banks each; two words of weights."""
    program = convolution(8, 12, 24)
    one = details(program)[0].footprint
    assert one is not None
    assert one.image_banks == pytest.approx(8 * (8 + 16) / (16 * 2048))
    assert one.weight_banks == 2 / 2048
    assert one.map_bytes == one.fresh_map_bytes == 8 * 8 * 12
    assert one.constant_bytes == program.layers[0].load_bytes - one.map_bytes >= 24 * 12


def test_chunks_load_the_source_again() -> None:
    """26x26x300 → 300 channels: three chunks of weights (9 + 9 + 7 groups)."""
    one = details(convolution(26, 300, 300, 3))[0].footprint
    assert one is not None and one.again == pytest.approx(3, rel=0.01) and one.weight_banks > 0.9


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bytes_are_those_of_the_costs(schedule: str) -> None:
    program = compile(yolox_graph(0.25, 160), schedule=schedule)
    for row, more in zip(program.layers, details(program), strict=True):
        one = more.footprint
        assert one is not None and one.constant_bytes + one.map_bytes == row.load_bytes
        assert 0 < one.fresh_map_bytes <= one.map_bytes


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "name", "used"),
    [
        ((64, 3, 24, 3), "3/12 in", 1 / 4),
        ((64, 48, 30, 3), "30/36 out", 5 / 6),
        ((10, 120, 120, 3), "10/16 rows", 5 / 8),
    ],
)
def test_empty_lines_cost_their_share_of_the_work(shape: tuple[int, ...], name: str, used: float) -> None:
    program = convolution(*shape)
    (row,), (more,) = program.layers, details(program)
    starts = sum(one.name == "CONV" for one in program.segments[0].instructions) * LPCV.costs.conv_cycles
    multiplies = (1 - sum(more.waits.values())) * (1 - starts / row.cycles["conv"])
    assert found_of(program)[name] == pytest.approx(multiplies * (1 - used))


@pytest.mark.parametrize("shape", [(10, 3, 30, 3), (20, 20, 20, 1), (64, 30, 4, 3)])
def test_what_is_used_and_what_is_lost_make_the_whole(shape: tuple[int, ...]) -> None:
    program = convolution(*shape)
    (row,), (more,) = program.layers, details(program)
    lost = sum(loss.share for loss in more.losses)
    assert row.utilisation + lost <= 1 + 1e-9
    assert row.utilisation + lost == pytest.approx(1, abs=0.05)  # waits and starts below five percent have no name


@pytest.mark.parametrize("shape", [(10, 3, 30, 3)])
def test_three_dimensions_share_what_they_lose(shape: tuple[int, ...]) -> None:
    found, (row,) = found_of(convolution(*shape)), convolution(*shape).layers
    empty = found["3/12 in"] + found["30/36 out"] + found["10/16 rows"]
    assert empty == pytest.approx(row.utilisation * (4 * 1.2 * 1.6 - 1))


def test_packed_columns_are_no_empty_channels() -> None:
    assert "9/16 in" in found_of(convolution(64, 3, 16, 3, "kv260"))
    assert "3/12 in" in found_of(convolution(64, 3, 16, 3))


def test_a_full_array_loses_nothing() -> None:
    names = set(found_of(convolution(48, 96, 96, 3)))
    assert names <= {"drain", "starts"}


def test_short_loads_are_named_where_load_holds_up() -> None:
    assert any(name.endswith("B LOADs") for name in found_of(convolution(8, 12, 12)))


def test_work_without_the_array_is_called_so() -> None:
    g = Graph("net")
    g.outputs = [g.add("max_pool", [g.add_input("x", (1, 8, 8, 12))], "y", kernel=(2, 2), stride=(2, 2))]
    assert found_of(compile(g)) == {"no conv": 1.0}


def test_zeros_in_a_kernel_are_named() -> None:
    """A depthwise convolution with two outputs a channel runs on the array, as a kernel that is mostly zeros."""
    g = Graph("net")
    w = g.add_constant("w", np.zeros((2, 3, 3, 12), np.float32))
    g.outputs = [g.add("depthwise_conv2d", [g.add_input("x", (1, 64, 64, 12)), w], "y", pad=(1, 1, 1, 1))]
    assert found_of(compile(g))["zeros"] > 0.5


def test_losses_come_costliest_first_and_every_reason_says_what_it_is() -> None:
    program = compile(yolox_graph(0.25, 160))
    for more in details(program):
        shares = [loss.share for loss in more.losses]
        assert shares == sorted(shares, reverse=True) and all(0 <= share <= 1 for share in shares)
    assert all(reason.__doc__ for reason in REASONS)


def test_a_node_of_the_host_has_its_share_alone() -> None:
    g = Graph("net")
    g.outputs = [g.add("softmax", [g.add_input("x", (1, 8, 8, 12))], "y", axis=3)]
    (more,) = details(compile(g))
    assert more == LayerDetail(more.share, {}, None, ()) and 0 < more.share < 1


# -- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sums_are_those_of_the_layers(schedule: str) -> None:
    program = compile(yolox_graph(0.25, 160), schedule=schedule)
    found = details(program)
    sums = totals(program, found)
    assert sums.macs == program.macs and sums.ms == program.dpu_ms
    assert sums.gops == pytest.approx(2 * program.macs / program.dpu_ms / 1e6)
    assert sums.array_use == pytest.approx(sums.gops / LPCV.peak_gops)
    assert sums.array_use < sums.array_use_working < 1 and sums.array_use < sums.busy["conv"] <= 1
    assert sums.instructions == len(program.segments[0].instructions)


def test_json_has_everything_beside_each_layer() -> None:
    found = json.loads(json.dumps(detailed_json(compile(yolox_graph(0.125, 64)))))
    row = found["layers"][0]
    assert {"name", "cycles", "bound_by", "share", "waits", "footprint", "losses", "why"} <= set(row)
    assert {"busy", "array_use", "ops_per_byte", "peak_gops"} <= set(found["totals"])


def test_an_empty_accelerator_is_no_division() -> None:
    g = Graph("net")
    g.outputs = [g.add("softmax", [g.add_input("x", (1, 8, 8, 12))], "y", axis=3)]
    program = compile(g)
    sums = totals(program, details(program))
    assert (sums.layers, sums.array_use, sums.ms) == (0, 0, 0)
    assert list(total_lines(sums, program))


# -- the terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_a_terminal(width: int) -> None:
    program = compile(yolox_graph(0.375, 320))
    console = Console(width=width, record=True)
    console.print(layer_table(program, details(program), width))
    lines = console.export_text().splitlines()
    assert "…" not in "".join(lines) and all(len(line.rstrip()) <= width for line in lines)
    assert lines[1].startswith("conv1 ") and "1/12 in" in lines[1]
    assert ("banks" in lines[0]) == (width == 120) and "bound" in lines[0]


# -- two programs -----------------------------------------------------------------------------------------------------


def test_two_schedules_are_compared_by_layer() -> None:
    before, after = (compile(yolox_graph(0.25, 160), schedule=schedule) for schedule in SCHEDULES)
    found = compare_programs(before, after)
    changes = {change.name: change for change in found.totals}
    assert changes["DPU"].improved and changes["frames a second"].improved
    assert changes["host"].delta == 0 and changes["host"].improved is None
    assert sum(change.delta or 0 for change in found.layers) == pytest.approx(after.dpu_ms - before.dpu_ms)
    deltas = [abs(change.delta or 0) for change in found.layers]
    assert deltas == sorted(deltas, reverse=True)
    assert change_table("two", found.layers).row_count == len(found.layers) and "ms less" in gains(found.layers)


def test_a_layer_that_only_one_program_has_is_kept() -> None:
    found = compare_programs(convolution(8, 12, 12), compile(yolox_graph(0.125, 64)))
    assert {(change.before is None, change.after is None) for change in found.layers} == {(True, False), (False, True)}
    assert gains(found.layers) == "0 layers take 0.000 ms less, 0 take 0.000 ms more"


# -- energy by assumption ---------------------------------------------------------------------------------------------


def machine(tmp_path: Path, energy: str) -> Any:
    file = tmp_path / "own.yaml"
    file.write_text(f"base: ultra96v2-lpcv\nname: own\nenergy: {{assumed: {{{energy}}}}}\n")
    return load_target(file)


def test_assumed_energy_is_work_and_traffic_times_what_is_assumed(tmp_path: Path) -> None:
    target = machine(tmp_path, "pj_per_mac: 2, pj_per_dram_byte: 100, provenance: a guess")
    program = compile(yolox_graph(0.125, 64), target)
    found = assumed_energy(program)
    moved = sum(row.load_bytes + row.save_bytes for row in program.layers)
    assert found is not None and found.mj == pytest.approx((2 * program.macs + 100 * moved) * 1e-9)
    (line,) = energy_lines(program)
    assert "assumed, not measured" in line and "a guess" in line and "2 pJ a MAC" in line
    assert dataclasses.replace(target, energy=LPCV.energy) == dataclasses.replace(LPCV, name="own")
    program.save(tmp_path / "p.lwp")
    assert Program.load(tmp_path / "p.lwp").target == target


def test_nothing_is_assumed_unless_somebody_does(tmp_path: Path) -> None:
    program = compile(yolox_graph(0.125, 64))
    assert assumed_energy(program) is None and list(energy_lines(program)) == []
    with pytest.raises(ToolError, match=r"unknown key energy.assumed.pj_per_mca") as error:
        machine(tmp_path, "pj_per_mac: 2, pj_per_dram_byte: 100, pj_per_mca: 2")
    assert "pj_per_mac" in str(error.value.hint)
