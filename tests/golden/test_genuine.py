"""The vendor's own words, run on the simulator, give the integers of the operators that they were compiled from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lowwatt.compiler.isa import Instruction, legal_order
from lowwatt.errors import ToolError
from lowwatt.sim.genuine import genuine_programs

# programs, those of single layers among them, elements that leave them
FILES = {"tf2_zcu102_v2.5": (7, 5, 18_078), "tf2_zcu102_v3.0": (2, 0, 266)}


@pytest.mark.parametrize("name", FILES)
def test_words_give_the_integers_of_their_operators(shared: Path, name: str) -> None:
    programs = genuine_programs(shared / "golden" / "real" / f"{name}.xmodel")
    found = [program.differences(program.noise(seed)) for program in programs for seed in range(3)]
    assert sum(differ for outputs in found for differ, _ in outputs.values()) == 0
    elements = sum(size for outputs in found for _, size in outputs.values())
    assert (len(programs), sum(program.layer for program in programs), elements) == (
        *FILES[name][:2],
        3 * FILES[name][2],
    )


@pytest.mark.parametrize("choose", [max, random.Random(0).choice, random.Random(1).choice])
def test_any_order_that_the_tokens_allow_gives_the_same(shared: Path, choose: Callable[[list[int]], int]) -> None:
    for program in genuine_programs(shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel"):
        order = legal_order(program.instructions, choose)
        assert sorted(order.indices) == list(range(len(program.instructions)))
        assert all(differ == 0 for differ, _ in program.differences(program.noise(), order.indices).values())


@pytest.mark.parametrize("field", ["shift_cut", "bank_addr_weights", "pad_top", "bank_addr_in", "ddr_addr", "kernel_h"])
def test_a_changed_field_gives_other_integers(shared: Path, field: str) -> None:
    program = genuine_programs(shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel")[0]
    changed = list(program.instructions)
    index = next(k for k, one in enumerate(changed) if one.name in ("CONV", "CONVINIT", "LOAD") and field in one.values)
    values = changed[index].values
    changed[index] = Instruction(changed[index].spec, {**values, field: values[field] + 1})
    spoiled = replace(program, instructions=changed)
    try:
        differences = spoiled.differences(spoiled.noise())
    except ToolError:
        return
    assert sum(differ for differ, _ in differences.values()) > 0


def test_other_files_are_refused(shared: Path) -> None:
    with pytest.raises(ToolError, match="no DPU code"):
        genuine_programs(shared / "golden" / "real" / "VoxelNet_int_v20.xmodel")
