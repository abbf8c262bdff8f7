"""Compiled xmodels: shaped like a genuine one, read back to the same integers and the same instructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.compiler import Program, compile, xmodel_compiled
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel_proto import decode, messages
from lowwatt.types import QuantParams
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
    ("conv2d-fix", "channel_augmentation"),  # the compiler's note on the first layer's load, meaning not settled
    ("graph", "files_md5sum"),  # the files it was made of
    ("graph", "libs_info"),  # versions of the vendor's libraries
    ("subgraph layer", "mc_code"),  # a program of each layer alone, for the vendor's profiler
    ("subgraph layer", "mc_code_preload"),
}
ON_HOST = ("const", "Mylayer", "float2fix")
"""Operators between two accelerator parts, which ours does not write."""


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


def test_attributes_are_those_of_a_genuine_file(shared: Path, tmp_path: Path) -> None:
    """But for hard-sigmoid-fix, every kind of element stands in the network of `every_kind`."""
    genuine = _keys(shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel")
    xmodel_compiled.write(compile(every_kind(), "zcu102-vai3"), tmp_path / "a.xmodel")
    ours = _keys(tmp_path / "a.xmodel")
    xmodel_compiled.write(compile(hard_sigmoid(), "zcu102-vai3"), tmp_path / "h.xmodel")
    ours |= {pair: kinds for pair, kinds in _keys(tmp_path / "h.xmodel").items() if "hard-sigmoid" in pair[0]}
    missing = {
        pair
        for pair in genuine.keys() - ours.keys() - ABSENT
        if not pair[1].startswith(NOTES) and pair[0].removeprefix("tensor of ") not in ON_HOST
    }
    assert missing == set()
    assert {pair: kinds for pair, kinds in ours.items() if pair in genuine and not kinds <= genuine[pair]} == {}
    assert genuine.keys() >= ABSENT and not ABSENT & ours.keys()


def hard_sigmoid() -> Graph:
    g = Graph("gate")
    x = g.add_input("x", (1, 4, 4, 16), QuantParams.power_of_two(4))
    g.outputs = [g.add("hard_sigmoid", [x], "gate", quant=QuantParams.power_of_two(7))]
    return g


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    g = Graph("float")
    x = g.add("max_pool", [g.add_input("x", (1, 4, 4, 8))], "a", kernel=(2, 2), stride=(2, 2))
    g.outputs = [x]
    with pytest.raises(ToolError, match="of floats"):
        xmodel_compiled.write(compile(g), tmp_path / "a.xmodel")
    g.outputs = [g.add("softmax", [x], "b", axis=3)]
    with pytest.raises(ToolError, match="accelerator alone") as error:
        xmodel_compiled.write(compile(g), tmp_path / "a.xmodel")
    assert error.value.where == "b"


def test_export_says_that_it_is_experimental(tmp_path: Path) -> None:
    compile(quantized_graph(), "kv260").save(tmp_path / "net.lwp")
    call = ["export", str(tmp_path / "net.lwp"), "--format", "xmodel-compiled", "-o", str(tmp_path / "net.xmodel")]
    printed = CliRunner().invoke(app, call).output
    assert "EXPERIMENTAL" in printed and "0 differ" in printed and "0x1000020f6014407" in printed
    with pytest.raises(ToolError, match="needs a program"):
        export_graph(quantized_graph(), tmp_path / "a.xmodel", "xmodel-compiled")


def test_export_prints_what_the_vendors_compiler_needs(tmp_path: Path) -> None:
    compile(quantized_graph(), "kv260").save(tmp_path / "net.lwp")
    out = tmp_path / "net_int.xmodel"
    printed = CliRunner().invoke(app, ["export", str(tmp_path / "net.lwp"), "-o", str(out)]).output
    assert f"vai_c_xir -x {out} -a arch.json -o compiled -n small" in printed
    assert 'arch.json of kv260: {"fingerprint": "0x1000020f6014407"}' in printed
    other = CliRunner().invoke(app, ["export", str(tmp_path / "net.lwp"), "-t", "zcu102-vai3", "-o", str(out)]).output
    assert 'arch.json of zcu102-vai3: {"fingerprint": "0x101000056010407"}' in other
