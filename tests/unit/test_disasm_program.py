"""The verb disasm on programs of our own: layers, counts, tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.compiler import compile
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.verbs.disasm import disassemble
from yolox_graph import quantized_graph


@pytest.fixture(params=["vendor", "best"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    compile(quantized_graph(), "kv260", request.param).save(tmp_path / "net.lwp")
    return tmp_path / "net.lwp"


def test_the_listing_has_every_instruction_under_its_layer(saved: Path) -> None:
    (program,) = disassemble(saved)
    assert program.balanced and program.stuck is None
    printed = CliRunner().invoke(app, ["disasm", str(saved)]).output
    for layer in program.layers:
        assert f"  {layer.name}: {layer.op}" in printed
    assert all(f"  {offset:06x}  {line}" in printed for offset, line in program.lines)
    assert "NOT BALANCED" not in printed and "tokens LOAD → CONV" in printed


def test_one_layer_alone(saved: Path) -> None:
    (program,) = disassemble(saved)
    parts = [disassemble(saved, layer=layer.name)[0] for layer in program.layers]
    assert sorted(k for part in parts for k in part.shown) == list(range(len(program.instructions)))
    name = program.layers[0].name
    printed = CliRunner().invoke(app, ["disasm", str(saved), "--layer", name]).output
    assert f"  {name}: " in printed and "tokens" not in printed
    with pytest.raises(ToolError, match="no layer of that name"):
        disassemble(saved, layer="nobody")


def test_as_json(saved: Path) -> None:
    (found,) = json.loads(CliRunner().invoke(app, ["disasm", str(saved), "--json"]).output)
    assert sum(layer["instructions"] for layer in found["layers"]) == len(found["instructions"])
    assert {row["layer"] for row in found["instructions"]} <= {layer["name"] for layer in found["layers"]}
    assert found["balanced"] and found["stuck_at"] is None
    offsets = [row["offset"] for row in found["instructions"]] + [found["bytes"]]
    runs = [(layer["name"], run) for layer in found["layers"] for run in layer["runs"]]
    assert sorted(k for _, run in runs for k in range(run["first"], run["last"])) == list(range(len(offsets) - 1))
    for name, run in runs:
        assert {row["layer"] for row in found["instructions"][run["first"] : run["last"]]} == {name}
        assert (run["first_byte"], run["last_byte"]) == (offsets[run["first"]], offsets[run["last"]])


def test_headings_say_where_a_layers_instructions_are(saved: Path) -> None:
    (program,) = disassemble(saved)
    printed = CliRunner().invoke(app, ["disasm", str(saved)]).output
    for layer, positions in program.runs():
        at = program.bytes_of(positions)
        place = f"instructions {positions[0]} to {positions[-1]}, bytes 0x{at.start:x} to 0x{at.stop - 1:x}"
        assert layer is not None and f"  {layer.name}: " in printed and place in printed


def test_a_layer_of_the_vendors_file(shared: Path) -> None:
    file = shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel"
    (found,) = disassemble(file, layer="subgraph_quant_conv2d_1")
    assert len(found.stream.code) == 1424
    with pytest.raises(ToolError, match="no layer of that name"):
        disassemble(file, layer="nobody")


def test_a_program_of_the_host_alone_has_no_code(tmp_path: Path) -> None:
    g = Graph("host")
    g.outputs = [g.add("softmax", [g.add_input("x", (1, 4, 4, 8))], "y", axis=3)]
    compile(g).save(tmp_path / "host.lwp")
    with pytest.raises(ToolError, match="no DPU code"):
        disassemble(tmp_path / "host.lwp")
