"""The program's file: same bytes for the same program, damage and strangers refused, the golden output checked."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.compiler import Program, compile
from lowwatt.compiler import program as module
from lowwatt.compiler.clock import time_program
from lowwatt.compiler.program_file import FORMAT, seal
from lowwatt.errors import ToolError
from lowwatt.files import read_archive, write_archive
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.loading import load_graph
from lowwatt.sim import simulate
from lowwatt.targets import load_target
from yolox_graph import quantized_graph


@pytest.fixture
def quantized() -> Graph:
    return quantized_graph()


@pytest.fixture
def saved(quantized: Graph, tmp_path: Path) -> Path:
    path = tmp_path / "net.lwp"
    compile(quantized).save(path)
    return path


def test_round_trip(quantized: Graph, saved: Path) -> None:
    program, loaded = compile(quantized), Program.load(saved)
    assert json.dumps(loaded.to_json(), sort_keys=True) == json.dumps(program.to_json(), sort_keys=True)
    assert loaded.target == program.target
    assert [n.name for n in loaded.graph.nodes] == [n.name for n in quantized.nodes]
    assert np.array_equal(loaded.graph.tensor("w").data, quantized.tensor("w").data)
    assert loaded.verify() == 0


def test_same_program_same_bytes(quantized: Graph, saved: Path, tmp_path: Path) -> None:
    compile(quantized.copy()).save(tmp_path / "again.lwp")
    assert (tmp_path / "again.lwp").read_bytes() == saved.read_bytes()
    Program.load(saved).save(tmp_path / "third.lwp")
    assert (tmp_path / "third.lwp").read_bytes() == saved.read_bytes()


COMPILE = """
import sys
from lowwatt.compiler import compile
from yolox_graph import quantized_graph
compile(quantized_graph(), "kv260", sys.argv[1]).save(sys.argv[2])
"""


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_two_processes_give_the_same_bytes(schedule: str, tmp_path: Path) -> None:
    """Whatever the order of sets, which differs from process to process."""
    for seed in "01":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", COMPILE, schedule, str(tmp_path / f"{seed}.lwp")]
        subprocess.run(command, check=True, env=environment)
    assert (tmp_path / "0.lwp").read_bytes() == (tmp_path / "1.lwp").read_bytes()


@pytest.mark.parametrize("schedule", ["vendor", "best"])
def test_every_instruction_stands_at_one_position_of_its_layer(quantized: Graph, schedule: str) -> None:
    program = compile(quantized, schedule=schedule)
    for segment in (s for s in program.segments if s.side == "dpu"):
        positions = segment.positions()
        assert sorted(k for part in positions for k in part) == list(range(len(segment.instructions)))
        assert all(segment.owners[k] == owner for owner, part in enumerate(positions) for k in part)
        assert program.dpu_ms == pytest.approx(time_program(segment.instructions, program.target).total / 1e6)


def test_a_float_program_has_no_golden_output(tmp_path: Path) -> None:
    g = Graph("float")
    g.outputs = [g.add("max_pool", [g.add_input("x", (1, 4, 4, 3))], "y", kernel=(2, 2), stride=(2, 2))]
    compile(g).save(tmp_path / "float.lwp")
    loaded = Program.load(tmp_path / "float.lwp")
    assert loaded.golden is None
    with pytest.raises(ToolError, match="no golden"):
        loaded.verify()


def test_changed_weights_show_in_the_golden_output(saved: Path) -> None:
    program = Program.load(saved)
    weights = program.graph.tensor("w")
    assert weights.data is not None
    weights.data = weights.data ^ np.int8(64)
    assert program.verify() > 0


def test_truncated_and_altered_files_end_in_a_clear_error(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    bad = tmp_path / "bad.lwp"
    rng = random.Random(0)
    survived = 0
    for attempt in range(120):
        data = bytearray(whole)
        if attempt % 2:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        bad.write_bytes(bytes(data))
        try:
            program = Program.load(bad)
        except ToolError as error:
            assert "bad.lwp" in error.where
        else:
            survived += 1  # a flip in the archive's own bookkeeping that the content does not depend on
            assert program.verify() == 0
    assert survived < 40


def test_whoever_changes_a_member_is_found_out(saved: Path) -> None:
    members = read_archive(saved)
    for name, data in members.items():
        changed = bytearray(data)
        changed[len(changed) // 2] ^= 1
        for others in ({**members, name: bytes(changed)}, {k: v for k, v in members.items() if k != name}):
            write_archive(saved, others)
            with pytest.raises(ToolError):
                Program.load(saved)
    write_archive(saved, {**members, "more": b""})
    with pytest.raises(ToolError, match="damaged"):
        Program.load(saved)


def test_members_that_change_places_are_found_out(saved: Path) -> None:
    members = read_archive(saved)
    for one, other in itertools.combinations(members, 2):
        write_archive(saved, {**members, one: members[other], other: members[one]})
        with pytest.raises(ToolError):
            Program.load(saved)


def test_what_does_not_fit_together_is_refused_also_behind_the_digest(saved: Path) -> None:
    """As somebody would do it who knows of the digest: cut, exchanged and altered members."""
    members = read_archive(saved)
    rng = random.Random(0)
    for _ in range(150):
        one, other = rng.choice(list(members)), rng.choice(list(members))
        cut, flipped = members[one][: rng.randrange(len(members[one]))], bytearray(members[one])
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        for changes in ({one: cut}, {one: members[other], other: members[one]}, {one: bytes(flipped)}):
            write_archive(saved, seal({**members, **changes}))
            with contextlib.suppress(ToolError):
                program = Program.load(saved)
                program.verify()
                program.save(saved)


def test_maps_lie_in_registers_that_there_can_be(saved: Path) -> None:
    text = json.loads(read_archive(saved)["segments/000/segment.json"])
    name, region = next(iter(text["regions"].items()))
    changed = [{"address": -1}, {"address": 1 << 40}, {"register": 9}, {"height": 0}, {"row_bytes": 1 << 30}]
    for change in changed:
        resealed(saved, "segments/000/segment.json", regions={**text["regions"], name: {**region, **change}})
        with pytest.raises(ToolError, match="outside its register"):
            Program.load(saved)
    resealed(saved, "segments/000/segment.json", regions={})
    with pytest.raises(ToolError, match="no place in DRAM"):
        Program.load(saved)
    resealed(saved, "segments/000/segment.json", regions=text["regions"], sizes={**text["sizes"], "1": 1 << 40})
    with pytest.raises(ToolError, match="no possible size"):
        Program.load(saved)


def test_segments_are_the_parts_of_the_graph(saved: Path) -> None:
    segments = json.loads(read_archive(saved)["program.json"])["segments"]
    for changed in ([], segments * 2, [{**segments[0], "nodes": segments[0]["nodes"][1:]}]):
        resealed(saved, "program.json", segments=changed)
        with pytest.raises(ToolError, match="not the parts of its graph"):
            Program.load(saved)


MEMBERS = ["program.json", "graph/graph.txt", "golden/output/000.npy", "segments/000/code.bin"]


@pytest.mark.parametrize("missing", MEMBERS)
def test_missing_members_are_named(saved: Path, missing: str) -> None:
    members = read_archive(saved)
    del members[missing]
    write_archive(saved, seal(members))
    with pytest.raises(ToolError) as error:
        Program.load(saved)
    assert missing.split("/")[-1] in error.value.why


def resealed(path: Path, member: str, **changes: object) -> None:
    """Change a json member, as somebody would who knows of the digest."""
    members = read_archive(path)
    content = {**json.loads(members[member]), **changes}
    write_archive(path, seal({**members, member: json.dumps(content).encode()}))


WRONG = (None, [1], "x", {"a": 1})
KEYS = ["layers", "verdicts", "machine", "fingerprint", "host_ms", "format", "segments"]


@pytest.mark.parametrize("key", KEYS)
def test_missing_or_wrong_json_is_an_error(saved: Path, key: str) -> None:
    for value in WRONG:
        resealed(saved, "program.json", **{key: value})
        with pytest.raises(ToolError):
            Program.load(saved)


@pytest.mark.parametrize("key", ["layers", "owners", "regions", "sizes"])
def test_missing_or_wrong_json_of_a_segment_is_an_error(saved: Path, key: str) -> None:
    for value in WRONG:
        resealed(saved, "segments/000/segment.json", **{key: value})
        with pytest.raises(ToolError):
            Program.load(saved)


def test_a_newer_format_is_refused(saved: Path) -> None:
    resealed(saved, "program.json", format=FORMAT + 1)
    with pytest.raises(ToolError, match="newer lowwatt"):
        Program.load(saved)


def test_an_older_format_says_how_to_compile_its_graph_again(saved: Path, quantized: Graph) -> None:
    resealed(saved, "program.json", format=1)
    with pytest.raises(ToolError, match="older form") as error:
        Program.load(saved)
    command = f"lowwatt compile {saved} --target ultra96v2-lpcv --schedule vendor --out {saved}"
    assert error.value.hint == f"its graph is still good: {command}"
    assert [n.name for n in load_graph(saved).nodes] == [n.name for n in quantized.nodes]
    assert CliRunner().invoke(app, command.split()[1:]).exit_code == 0
    assert Program.load(saved).verify() == 0


def test_another_machine_of_the_same_name_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("ultra96v2-lpcv")
    other = dataclasses.replace(target, options=dataclasses.replace(target.options, eltwise_mul=True))
    monkeypatch.setattr(module, "load_target", lambda name: other)
    with pytest.raises(ToolError, match="another machine") as error:
        Program.load(saved)
    assert error.value.hint == f"lowwatt compile {saved} --target ultra96v2-lpcv --schedule vendor --out {saved}"
    assert load_graph(saved).is_quantized, "the command needs the graph alone"


def test_a_machine_of_ones_own_travels_with_the_program(quantized: Graph, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("base: kv260\nname: own\nclock_mhz: 200\n")
    compile(quantized, tmp_path / "own.yaml").save(tmp_path / "net.lwp")
    (tmp_path / "own.yaml").unlink()
    assert Program.load(tmp_path / "net.lwp").target.clock_mhz == 200


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 1000, b"{}"])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.lwp").write_bytes(content)
    with pytest.raises(ToolError):
        Program.load(tmp_path / "x.lwp")
    with pytest.raises(ToolError):
        Program.load(tmp_path / "none.lwp")


def test_simulation_gives_the_reference_integers_and_the_costs(quantized: Graph) -> None:
    program = compile(quantized)
    inputs = {"image": np.random.default_rng(3).integers(-128, 128, (1, 8, 8, 3), np.int8)}
    found = simulate(program, inputs)
    expected = interpreter.run(quantized, inputs)
    assert all(np.array_equal(found.outputs[name], expected[name]) for name in quantized.outputs)
    assert found.cycles["conv"] == sum(layer.cycles["conv"] for layer in program.layers) > 0


def test_a_float_program_cannot_be_simulated() -> None:
    g = Graph("float")
    g.outputs = [g.add("max_pool", [g.add_input("x", (1, 4, 4, 3))], "y", kernel=(2, 2), stride=(2, 2))]
    with pytest.raises(ToolError, match="float program"):
        simulate(compile(g), {"x": np.zeros((1, 4, 4, 3))})
