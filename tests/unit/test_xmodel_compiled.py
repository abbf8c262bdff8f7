"""Compiled xmodels: shaped like a genuine one, read back to the same integers and the same instructions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.compiler import Program, compile, xmodel_compiled
from lowwatt.compiler.workload import workload
from lowwatt.compiler.xmodel_parts import read_parts
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel_proto import decode, encode, messages
from lowwatt.targets import load_target
from lowwatt.types import QuantParams
from lowwatt.verbs.compiled_proof import prove_code
from lowwatt.verbs.disasm import disassemble
from lowwatt.verbs.export import export_file, export_graph, random_inputs
from small_detector import small_detector
from yolox_graph import quantized_graph

TARGETS = ["kv260", "kv260-vai3", "ultra96v2-lpcv"]


def every_kind() -> Graph:
    """A network with each operator that the genuine file has, and some more."""
    random = np.random.default_rng(0)
    g = Graph("kinds")
    q = QuantParams.power_of_two(4)

    def weights(name: str, *shape: int) -> str:
        return g.add_constant(name, random.integers(-8, 8, shape).astype(np.int8), QuantParams.power_of_two(6))

    x = g.add_input("x", (1, 8, 8, 4), q)
    x = g.add("conv2d", [x, weights("w", 8, 3, 3, 4), weights("b", 8)], "conv", quant=q, pad=(1, 1, 1, 1))
    y = g.add("depthwise_conv2d", [x, weights("v", 1, 3, 3, 8), weights("c", 8)], "dw", quant=q, pad=(1, 1, 1, 1))
    x = g.add("add", [x, y], "sum", quant=q, activation="relu")
    x = g.add(
        "max_pool", [g.add("concat", [x, y], "both", quant=q, axis=3)], "pool", quant=q, kernel=(2, 2), stride=(2, 2)
    )
    x = g.add("resize", [x], "up", quant=q, scale=(2, 2), mode="nearest")
    g.outputs = [g.add("reshape", [x], "flat", quant=q, shape=(1, 1024))]
    return g


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


def test_every_golden_graph_of_the_accelerator_reads_back(shared: Path, tmp_path: Path) -> None:
    written = 0
    for folder in sorted((shared / "golden").glob("case*-A")):
        graph = xmodel.read(folder / "model.xmodel")
        program = compile(graph, "zcu102-vai3")
        if [segment.side for segment in program.segments] != ["dpu"]:
            continue
        result = _exported(program, tmp_path)
        assert "0 differ" in result["proof"][1], folder.name
        written += 1
    assert written >= 37


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        xmodel_compiled.write(compile(every_kind(), "kv260"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_tree_holds_every_operator_once_and_the_registers_their_maps(tmp_path: Path) -> None:
    program = compile(every_kind(), "kv260")
    xmodel_compiled.write(program, tmp_path / "a.xmodel")
    message = messages()["Graph"].FromString((tmp_path / "a.xmodel").read_bytes())
    leaves = [leaf for leaf in _subgraphs(message.subg_root) if not leaf.subg_child]
    assert sorted(name for leaf in leaves for name in leaf.op_name) == sorted(op.op_name for op in message.op_node)
    assert all(leaf.op_name for leaf in leaves)
    dpu = next(s for s in _subgraphs(message.subg_root) if "mc_code" in s.subg_attr)
    sizes = decode(dpu.subg_attr["reg_id_to_size"])
    assert decode(dpu.subg_attr["mc_code"]) == program.segments[0].code
    assert dpu.subg_attr["reg_id_to_parameter_value"].map_string_2_bytes_value.value["REG_0"].value == (
        program.segments[0].dram.constants
    )
    for op in message.op_node:
        place = {key: decode(value) for key, value in op.output_tensor.tensor_attr.items()}
        if "stride" in place:
            assert place["ddr_addr"] + place["stride"][0] <= sizes[f"REG_{place['reg_id']}"], op.op_name


# What the genuine file has and ours has not:
NOTES = "quant_"
"""Its importer's notes on the TensorFlow quantizer."""
ABSENT = {
    ("subgraph layer", "mc_code"),  # a program of each layer alone, for the vendor's profiler
    ("subgraph layer", "mc_code_preload"),
}


def _subgraphs(subgraph: Any) -> Iterator[Any]:
    yield subgraph
    for child in subgraph.subg_child:
        yield from _subgraphs(child)


def _kind(subgraph: Any, attrs: Mapping[str, Any]) -> str:
    if "device" in attrs:
        return f"subgraph {decode(attrs['device'])}"
    if subgraph.subgraph_name == "root":
        return "root"
    if "skip_code_gen" in attrs:
        return "subgraph without code"
    return "subgraph download" if subgraph.op_name[0].endswith("_download_0") else "subgraph layer"


def _keys(path: Path) -> dict[tuple[str, str], set[str]]:
    """Type of each attribute by kind of element and name."""
    message = messages()["Graph"].FromString(path.read_bytes())
    elements = [("graph", message.graph_attr)]
    for op in message.op_node:
        elements += [(op.op_type, op.op_attr), (f"tensor of {op.op_type}", op.output_tensor.tensor_attr)]
    elements += [(_kind(s, s.subg_attr), s.subg_attr) for s in _subgraphs(message.subg_root)]
    found: dict[tuple[str, str], set[str]] = {}
    for kind, attrs in elements:
        for key, value in attrs.items():
            found.setdefault((kind, key), set()).add(value.WhichOneof("value"))
    return found


@pytest.mark.parametrize("version", ["2.5", "3.0"])
def test_attributes_are_those_of_a_genuine_file(shared: Path, tmp_path: Path, version: str) -> None:
    """Every key and type that the genuine file has on any kind of element, ours has there too."""
    genuine = _keys(shared / "golden" / "real" / f"tf2_zcu102_v{version}.xmodel")
    ours: dict[tuple[str, str], set[str]] = {}
    for make in (every_kind, hard_sigmoid, island, fully_connected):
        xmodel_compiled.write(compile(make(), "zcu102-vai3"), tmp_path / "a.xmodel")
        ours |= _keys(tmp_path / "a.xmodel")
    missing = {
        pair
        for pair in genuine.keys() - ours.keys() - ABSENT
        if not pair[1].startswith(NOTES) and pair[0].removeprefix("tensor of ") != "Mylayer"
    }
    assert missing == set()
    assert {pair: kinds for pair, kinds in ours.items() if pair in genuine and not kinds <= genuine[pair]} == {}
    assert not ABSENT & ours.keys()


def test_workloads_are_those_of_a_genuine_file(shared: Path) -> None:
    path = shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel"
    graph, target = xmodel.read(path), load_target("zcu102-vai3")
    nodes = graph.producers()
    stated = [op for op in messages()["Graph"].FromString(path.read_bytes()).op_node if "workload" in op.op_attr]
    assert len(stated) == 6
    for op in stated:
        figures = tuple(decode(op.op_attr[key]) for key in ("workload", "workload_on_arch"))
        assert workload(nodes[op.op_name], graph, target) == figures, op.op_name


def hard_sigmoid() -> Graph:
    g = Graph("gate")
    x = g.add_input("x", (1, 4, 4, 16), QuantParams.power_of_two(4))
    g.outputs = [g.add("hard_sigmoid", [x], "gate", quant=QuantParams.power_of_two(7))]
    return g


def island() -> Graph:
    """Float operators between two parts of the accelerator, and integer ones that only the host has."""
    g, q = Graph("island"), QuantParams.power_of_two(4)
    x = g.add("max_pool", [g.add_input("x", (1, 8, 8, 4), q)], "before", quant=q, kernel=(2, 2), stride=(2, 2))
    half = g.add_constant("half", np.full((1, 4, 4, 4), 0.5, np.float32))
    y = g.add("softmax", [g.add("mul", [x, half], "scaled")], "soft", quant=QuantParams.power_of_two(7), axis=3)
    y = g.add("transpose", [y], "turned", quant=QuantParams.power_of_two(7), order=(0, 2, 1, 3))
    y = g.add("fix", [y], "rounded", quant=q, round_mode="PY3_ROUND")
    w = g.add_constant("w", np.full((4, 1, 1, 2), 3, np.int8), q)
    y = g.add("conv2d", [y, w], "grouped", quant=q, group=2)
    y = g.add("add", [x, y], "after", quant=q)
    g.outputs = [y, g.add("sigmoid", [y], "loose")]
    return g


def fully_connected() -> Graph:
    random, g, q = np.random.default_rng(1), Graph("linear"), QuantParams.power_of_two(4)
    x = g.add("reshape", [g.add_input("x", (1, 4, 4, 8), q)], "flat", quant=q, shape=(1, 128))
    w = g.add_constant("w", random.integers(-8, 8, (10, 128)).astype(np.int8), QuantParams.power_of_two(6))
    b = g.add_constant("b", random.integers(-8, 8, 10).astype(np.int8), QuantParams.power_of_two(6))
    g.outputs = [g.add("linear", [x, w, b], "dense", quant=q, activation="relu")]
    return g


@pytest.mark.parametrize("schedule", ["vendor", "best"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [every_kind, hard_sigmoid, island, fully_connected])
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
        edit(next(s for s in _subgraphs(message.subg_root) if "mc_code" in s.subg_attr).subg_attr)
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
        places = [s.subg_attr for s in _subgraphs(message.subg_root)]
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
