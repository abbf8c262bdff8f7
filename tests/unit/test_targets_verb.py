"""The verb targets: list, description, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lowwatt
from lowwatt.cli import app
from lowwatt.compiler import Program
from lowwatt.targets import load_target, target_names
from lowwatt.verbs.targets import open_targets, operators, properties, same_programs, to_json


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, ["targets", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_names_every_machine() -> None:
    printed = _run()
    assert all(name in printed and f"{load_target(name).fingerprint:#x}" in printed for name in target_names())


def test_json_of_all_and_of_one() -> None:
    assert [row["name"] for row in json.loads(_run("--json"))] == list(target_names())
    (one,) = json.loads(_run("0x101000056010407", "--json"))
    assert one["core"] == "DPUCZDX8G_ISA1_B4096" and one["fingerprint"] == "0x101000056010407"
    assert one["weight_banks"] == {"first": 16, "count": 16} and one["bias_bank"] == 33
    assert one["costs"]["provenance"]


def test_the_trap_of_two_generations_is_seen_at_once() -> None:
    """The fingerprint check that fails most often: a program of Vitis AI 2.5 on a core of 3.x."""
    pair = open_targets(["0x101000016010407", "0x101000056010407"])
    different = {row.name for row in properties(pair) if row.differs}
    assert (
        {"fingerprint", "argmax on saving"}
        <= different
        <= {"fingerprint", "argmax on saving", "core", "known from"} | {"costs from"}
    )
    assert not list(operators(pair)) and not same_programs(pair)
    assert "fingerprints differ" in _run("0x101000016010407", "0x101000056010407")


def test_boards_with_one_core_share_programs() -> None:
    assert same_programs(open_targets(["kv260", "zcu102"]))
    assert "one fingerprint" in _run("kv260", "zcu102")


def test_operators_that_differ_between_the_instruction_sets() -> None:
    rows = {row.name: row.values for row in operators(open_targets(["kv260", "kv260-vai3"]))}
    assert rows["hard_sigmoid"] == ("runs on the host", "taken")
    assert "1 to 8" in rows["max_pool"][0] and "1 to 256" in rows["max_pool"][1]
    assert "concat" not in rows


def test_an_array_of_ones_own_is_described(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: kv260\nname: own\narray: {name: B9999, pixels: 8, input_channels: 16, output_channels: 32}\n")
    (target,) = open_targets([str(own)])
    assert to_json(target)["fingerprint"] is None
    assert "B9999" in _run(str(own))


@pytest.mark.parametrize("name", ["kv261", "0x603000b56011861", "none.hwh"])
def test_what_names_no_machine_is_answered(name: str) -> None:
    result = CliRunner().invoke(app, ["targets", name])
    assert result.exit_code == 1 and type(result.exception).__name__ == "ToolError"


def test_compile_says_what_a_machine_without_a_board_rests_on(tmp_path: Path) -> None:
    network = Path(lowwatt.__file__).parent / "zoo/yolox_fpga_person.lwg"
    program = tmp_path / "p.lwp"
    result = CliRunner().invoke(app, ["compile", str(network), "-t", "0x101000016010403@zcu104", "-o", str(program)])
    assert result.exit_code == 0, result.output
    assert Program.load(program).target == load_target("0x101000016010403@zcu104")
    assert "zcu104's, as asked for; this machine was not measured" in Program.load(program).target.provenance
