"""Compiled xmodels: shaped like a genuine one, read back to the same integers and the same instructions."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compiled_graphs import NETWORKS, every_kind, island, subgraphs
from lowwatt.cli import app
from lowwatt.compiler import Program, compile, xmodel_compiled
from lowwatt.compiler.xmodel_parts import read_parts
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel_proto import decode, encode, messages
from lowwatt.targets import load_target
from lowwatt.types import QuantParams
from lowwatt.verbs.compiled_proof import prove_code
from lowwatt.verbs.disasm import disassemble
from lowwatt.verbs.export import export_file, export_graph
from lowwatt.verbs.export_source import random_inputs
from small_detector import small_detector
from yolox_graph import quantized_graph

TARGETS = ["kv260", "kv260-vai3", "ultra96v2-lpcv"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [quantized_graph, small_detector, every_kind])
def test_it_reads_back_to_the_same_integers_and_instructions(make: Any, target: str, tmp_path: Path) -> None:
    graph = make()
    program = compile(graph, target)
    xmodel_compiled.write(program, tmp_path / "a.xmodel")
    again = xmodel.read(tmp_path / "a.xmodel")
    (sample, _) = random_inputs(graph)
    expected = interpreter.run(graph, sample)
    found = interpreter.run(again, {new: sample[old] for old, new in zip(graph.inputs, again.inputs, strict=True)})
    assert all(np.array_equal(a, b) for a, b in zip(expected.values(), found.values(), strict=True))
    (code,) = disassemble(tmp_path / "a.xmodel")
    assert code.instructions == program.segments[0].instructions
    assert code.stream.fingerprint == program.target.fingerprint


def _exported(program: Program, folder: Path) -> dict[str, Any]:
    program.save(folder / "a.lwp")
    return export_file(folder / "a.lwp", folder / "a.xmodel", "xmodel-compiled")


def test_every_golden_graph_reads_back_and_its_code_gives_its_integers(shared: Path, tmp_path: Path) -> None:
    written = 0
    for folder in sorted((shared / "golden").glob("case*-A")):
        program = compile(xmodel.read(folder / "model.xmodel"), "zcu102-vai3")
        if any(segment.side == "dpu" for segment in program.segments):
            proof = _exported(program, tmp_path)["proof"]
            assert "0 differ" in proof[1] and "0 differ" in proof[3], folder.name
            written += 1
    assert written >= 40


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        xmodel_compiled.write(compile(every_kind(), "kv260"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_tree_holds_every_operator_once_and_the_registers_their_maps(tmp_path: Path) -> None:
    program = compile(every_kind(), "kv260")
    xmodel_compiled.write(program, tmp_path / "a.xmodel")
    message = messages()["Graph"].FromString((tmp_path / "a.xmodel").read_bytes())
    leaves = [leaf for leaf in subgraphs(message.subg_root) if not leaf.subg_child]
    assert sorted(name for leaf in leaves for name in leaf.op_name) == sorted(op.op_name for op in message.op_node)
    assert all(leaf.op_name for leaf in leaves)
    dpu = next(s for s in subgraphs(message.subg_root) if "mc_code" in s.subg_attr)
    sizes = decode(dpu.subg_attr["reg_id_to_size"])
    assert decode(dpu.subg_attr["mc_code"]) == program.segments[0].code
    assert dpu.subg_attr["reg_id_to_parameter_value"].map_string_2_bytes_value.value["REG_0"].value == (
        program.segments[0].dram.constants
    )
    for op in message.op_node:
        place = {key: decode(value) for key, value in op.output_tensor.tensor_attr.items()}
        if "stride" in place:
            assert place["ddr_addr"] + place["stride"][0] <= sizes[f"REG_{place['reg_id']}"], op.op_name


@pytest.mark.parametrize("schedule", ["vendor", "best"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", NETWORKS)
def test_its_code_run_from_the_file_gives_the_references_integers(
    make: Any, target: str, schedule: str, tmp_path: Path
) -> None:
    compile(make(), target, schedule).save(tmp_path / "a.lwp")
    if all(segment.side == "host" for segment in Program.load(tmp_path / "a.lwp").segments):
        pytest.skip("this core leaves all of it to the host")
    proof = export_file(tmp_path / "a.lwp", tmp_path / "a.xmodel", "xmodel-compiled")["proof"]
    assert "0 differ" in proof[1] and "as in the program" in proof[2] and "0 differ" in proof[3]


def test_parts_of_both_sides_take_turns(tmp_path: Path) -> None:
    xmodel_compiled.write(compile(island(), "kv260"), tmp_path / "a.xmodel")
    message = messages()["Graph"].FromString((tmp_path / "a.xmodel").read_bytes())
    devices = [decode(child.subg_attr["device"]) for child in message.subg_root.subg_child]
    assert devices == ["USER", "DPU", "CPU", "DPU", "CPU"]
    parts = read_parts(tmp_path / "a.xmodel")
    assert [(set(part.inputs), set(part.outputs)) for part in parts] == [
        ({"x"}, {"before"}),
        ({"before", "grouped"}, {"after"}),
    ]


def test_the_proof_finds_other_code_and_other_constants(tmp_path: Path) -> None:
    program = compile(every_kind(), "kv260")
    path, (sample, _) = tmp_path / "a.xmodel", random_inputs(program.graph)
    xmodel_compiled.write(program, path)
    whole = path.read_bytes()

    def damaged(edit: Any) -> ToolError:
        message = messages()["Graph"].FromString(whole)
        edit(next(s for s in subgraphs(message.subg_root) if "mc_code" in s.subg_attr).subg_attr)
        path.write_bytes(message.SerializeToString())
        with pytest.raises(ToolError) as error:
            prove_code(path, program, xmodel.read(path), sample)
        return error.value

    def constants(attrs: Any) -> None:
        held = attrs["reg_id_to_parameter_value"].map_string_2_bytes_value.value["REG_0"]
        held.value = bytes(byte ^ 64 for byte in held.value)

    def code(attrs: Any) -> None:
        words = attrs["mc_code"].bytes_value
        words.value = words.value[:-2] + bytes([words.value[-2] ^ 16, words.value[-1]])  # END waits for LOAD too

    assert damaged(constants).what == "the xmodel's code gives other integers than the reference"
    assert damaged(code).what == "the xmodel holds other code than the program"


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    g = Graph("float")
    x = g.add("max_pool", [g.add_input("x", (1, 4, 4, 8))], "a", kernel=(2, 2), stride=(2, 2))
    g.outputs = [x]
    with pytest.raises(ToolError, match="of floats"):
        xmodel_compiled.write(compile(g), tmp_path / "a.xmodel")
    q = QuantParams.power_of_two(4)
    g = Graph("two images")
    g.outputs = [g.add("max_pool", [g.add_input("x", (2, 4, 4, 8), q)], "a", quant=q, kernel=(2, 2), stride=(2, 2))]
    with pytest.raises(ToolError, match="one image at a time"):
        xmodel_compiled.write(compile(g), tmp_path / "a.xmodel")
    g = Graph("host")
    g.outputs = [g.add("softmax", [g.add_input("x", (1, 4, 4, 8), q)], "a", axis=3)]
    with pytest.raises(ToolError, match="nothing to the accelerator"):
        export_graph(g, tmp_path / "a.xmodel", "xmodel-compiled")


def test_export_says_that_it_is_experimental(tmp_path: Path) -> None:
    compile(quantized_graph(), "kv260").save(tmp_path / "net.lwp")
    call = ["export", str(tmp_path / "net.lwp"), "--format", "xmodel-compiled", "-o", str(tmp_path / "net.xmodel")]
    printed = CliRunner().invoke(app, call).output
    assert "EXPERIMENTAL" in printed and "0 differ" in printed and "0x1000020f6014407" in printed
    proof = export_graph(quantized_graph(), tmp_path / "a.xmodel", "xmodel-compiled", machine="kv260-vai3")["proof"]
    assert "0x101000056010407" in proof[2]  # a graph is compiled for the machine that is asked for
    assert "no board has run" in " ".join(CliRunner().invoke(app, ["export", "--help"]).output.split())


def test_export_prints_what_the_vendors_compiler_needs(tmp_path: Path) -> None:
    compile(quantized_graph(), "kv260").save(tmp_path / "net.lwp")
    out, arch = tmp_path / "net_int.xmodel", tmp_path / "net_int.arch.json"
    for target, word in (("kv260", "0x1000020f6014407"), ("zcu102-vai3", "0x101000056010407")):
        machine = [] if target == "kv260" else ["-t", target]
        printed = CliRunner().invoke(app, ["export", str(tmp_path / "net.lwp"), *machine, "-o", str(out)]).output
        assert f"vai_c_xir -x {out} -a {arch} -o {tmp_path} -n net_int_{target}" in printed
        assert json.loads(arch.read_text()) == {"fingerprint": word}
        assert load_target(str(arch)).fingerprint == int(word, 16)


def test_disasm_shows_the_layers_of_a_compiled_xmodel(tmp_path: Path) -> None:
    for schedule in ("vendor", "best"):
        program = compile(every_kind(), "kv260", schedule)
        xmodel_compiled.write(program, tmp_path / "a.xmodel")
        (found,) = disassemble(tmp_path / "a.xmodel")
        segment = program.segments[0]
        assert [layer.name for layer in segment.layers] == [found.layers[k].name for k in dict.fromkeys(found.owners)]
        assert [found.layers[k].name for k in found.owners] == [segment.layers[k].name for k in segment.owners]
        (one,) = disassemble(tmp_path / "a.xmodel", layer="sum")
        assert {layer.name for layer, _ in one.runs() if layer is not None} == {"sum"}


def test_damage_never_ends_in_anything_but_a_tool_error(tmp_path: Path) -> None:
    path = tmp_path / "a.xmodel"
    xmodel_compiled.write(compile(island(), "kv260"), path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for trial in range(150):
        data = bytearray(whole[: random.integers(len(whole))] if trial % 3 == 0 else whole)
        for _ in range(random.integers(1, 9)):
            data[random.integers(len(data))] = random.integers(256)
        path.write_bytes(bytes(data))
        for read in (read_parts, disassemble, xmodel.read):
            with contextlib.suppress(ToolError):
                read(path)


ODD = [0, -1, 2**31 - 1, True, 1.5, "x", b"", [0], [-1, 2**31 - 1], ["a"], {"REG_0": 1}, {"a": "b"}, {"REG_9": b"x"}]


def test_wrong_attributes_never_end_in_anything_but_a_tool_error(tmp_path: Path) -> None:
    path, random = tmp_path / "a.xmodel", np.random.default_rng(0)
    xmodel_compiled.write(compile(island(), "kv260"), path)
    whole = path.read_bytes()
    for _ in range(300):
        message = messages()["Graph"].FromString(whole)
        places = [s.subg_attr for s in subgraphs(message.subg_root)]
        places += [op.output_tensor.tensor_attr for op in message.op_node] + [op.op_attr for op in message.op_node]
        attrs = places[random.integers(len(places))]
        if attrs:
            key = sorted(attrs)[random.integers(len(attrs))]
            attrs[key].Clear()
            encode(attrs[key], ODD[random.integers(len(ODD))])
        path.write_bytes(message.SerializeToString())
        for read in (read_parts, disassemble, xmodel.read):
            with contextlib.suppress(ToolError):
                read(path)
