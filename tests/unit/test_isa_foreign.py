"""Programs in the vendor's files: genuine ones to the last byte, containers made by hand, and the verb disasm."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.compiler.isa import ISA0, ISA0_FIRST, ISA1, Instruction, assemble, balance, decode, first_stuck
from lowwatt.compiler.isa.foreign import streams
from lowwatt.errors import ToolError
from lowwatt.ir.xmodel_proto import decode as value
from lowwatt.ir.xmodel_proto import encode, messages
from lowwatt.verbs.disasm import disassemble

B4096_ISA1 = 0x101000056010407
END = struct.pack("<I", 0x72200000)
GENUINE = {"tf2_zcu102_v2.5.xmodel": 7, "tf2_zcu102_v3.0.xmodel": 2}
"""Programs in each genuine file: two subgraphs, and in the older one five layers of theirs."""


def _xmodel(path: Path, fingerprint: int | None, code: bytes, layer: bytes = b"", preload: bytes = b"") -> Path:
    graph = messages()["Graph"](graph_name="net")
    graph.subg_root.subgraph_name = "root"
    subgraph = graph.subg_root.subg_child.add(subgraph_name="dpu")
    encode(subgraph.subg_attr["mc_code"], code)
    encode(subgraph.subg_attr["mc_code_preload"], preload)
    if fingerprint is not None:
        subgraph.subg_attr["dpu_fingerprint"].uint64_value = fingerprint
    if layer:
        encode(subgraph.subg_child.add(subgraph_name="conv").subg_attr["mc_code"], layer)
    path.write_bytes(graph.SerializeToString())
    return path


def _elf(path: Path, sections: dict[str, bytes], wide: bool) -> Path:
    """A little-endian ELF file with these sections, their names in the first."""
    names = b"".join(name.encode() + b"\0" for name in sections)
    begin, body, rows, title = (64 if wide else 52), b"", [], 0
    for name, content in sections.items():
        content = names if name == ".strtab" else content
        rows.append((title, 1, begin + len(body), len(content)))
        title, body = title + len(name) + 1, body + content
    layout = "<II16xQQ24x" if wide else "<II8xII16x"
    table = b"".join(struct.pack(layout, *row) for row in rows)
    head = b"\x7fELF" + bytes([2 if wide else 1, 1, 1])
    if wide:
        head = struct.pack("<40sQ10xHHH", head, begin + len(body), 64, len(rows), 0)
    else:
        head = struct.pack("<32sI10xHHH", head, begin + len(body), 40, len(rows), 0)
    path.write_bytes(head.ljust(begin, b"\0") + body + table)
    return path


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_programs_decode_to_the_last_byte(shared: Path, name: str) -> None:
    found = streams(shared / "golden" / "real" / name)
    assert len(found) == GENUINE[name]
    for stream in found:
        instructions = decode(stream.code, stream.isa)
        assert stream.isa is ISA1
        assert assemble(instructions) == stream.code
        assert [i.name for i in instructions].count("END") == 1 and instructions[-1].name == "END"
        assert all(tokens.balanced for tokens in balance(instructions).values())
        assert first_stuck(instructions) is None


def test_counts_of_a_genuine_program(shared: Path) -> None:
    first = streams(shared / "golden" / "real" / "tf2_zcu102_v3.0.xmodel")[0]
    kinds = Counter(i.name for i in decode(first.code, first.isa))
    assert kinds == {"LOAD": 159, "CONVINIT": 4, "CONV": 14, "ALUINIT": 2, "ALU": 3, "SAVE": 2, "END": 1}


def _layers(path: Path) -> Iterator[tuple[list[Instruction], dict[str, Any], dict[str, int]]]:
    """Program of each layer with one conv2d, that operator's attributes, and the fix points around it."""
    graph = messages()["Graph"].FromString(path.read_bytes())
    ops = {op.op_name: op for op in graph.op_node}
    leaves = [leaf for subgraph in graph.subg_root.subg_child for leaf in subgraph.subg_child]
    for leaf in leaves:
        convs = [ops[name] for name in leaf.op_name if ops[name].op_type == "conv2d-fix"]
        if len(convs) == 1 and "mc_code" in leaf.subg_attr:
            fixes = {arg.arg_name: ops[arg.arg_ops[0]] for arg in convs[0].args} | {"output": convs[0]}
            points = {key: value(op.output_tensor.tensor_attr["fix_point"]) for key, op in fixes.items()}
            attrs = {key: value(attr) for key, attr in convs[0].op_attr.items()}
            yield decode(value(leaf.subg_attr["mc_code"]), ISA1), attrs, points


def test_fields_say_what_the_layer_says(shared: Path) -> None:
    """Kernel, stride, activation and the shifts of 3.2; the bias is shifted to half an accumulator step."""
    checked = 0
    for instructions, attrs, fix in _layers(shared / "golden" / "real" / "tf2_zcu102_v2.5.xmodel"):
        for init in [i for i in instructions if i.name == "CONVINIT"]:
            product = fix["input"] + fix["weights"]
            assert init.values["shift_cut"] == product - fix["output"]
            assert init.values["shift_bias"] == max(0, product - fix["bias"] + 1)
            assert init.values["act_type"] == {"NONE": 0, "RELU": 1}[attrs["nonlinear"]]
            width, height = attrs["kernel"]
            assert init.real("kernel_h") == height and init.real("kernel_w") in (width, 1)
            assert [init.real("stride_w"), init.real("stride_h")] == attrs["stride"]
            checked += 1
    assert checked == 5


def test_streams_of_an_xmodel(tmp_path: Path) -> None:
    found = streams(_xmodel(tmp_path / "a.xmodel", B4096_ISA1, END * 2, layer=END, preload=END * 3))
    expected = [("dpu (preload)", END * 3, False), ("dpu", END * 2, False), ("conv", END, True)]
    assert [(s.name, s.code, s.layer) for s in found] == expected
    assert {s.fingerprint for s in found} == {B4096_ISA1}
    assert streams(_xmodel(tmp_path / "b.xmodel", 0x1000020F2014405, END))[0].isa is ISA0


@pytest.mark.parametrize("wide", [True, False])
def test_streams_of_an_elf(tmp_path: Path, wide: bool) -> None:
    sections = {".strtab": b"", ".deephi.strtab.a": b"DPU Target : v1.4.0\n", ".deephi.code.a": END}
    sections |= {".deephi.strtab.b": b"DPU Target : v1.4.1\n", ".deephi.code.b": END * 2}
    found = streams(_elf(tmp_path / "net.elf", sections, wide))
    assert [(s.name, s.isa, s.code) for s in found] == [("a", ISA0_FIRST, END), ("b", ISA0, END * 2)]


def test_an_elf_section_beyond_the_end(tmp_path: Path) -> None:
    data = bytearray(_elf(tmp_path / "net.elf", {".strtab": b"", ".deephi.code.a": END}, wide=True).read_bytes())
    data[-32:-24] = struct.pack("<Q", 8000)
    (tmp_path / "long.elf").write_bytes(data)
    with pytest.raises(ToolError, match=r"ends within section \.deephi\.code\.a"):
        streams(tmp_path / "long.elf")


def test_truncated_elf_files_end_in_an_error(tmp_path: Path) -> None:
    whole = _elf(tmp_path / "net.elf", {".strtab": b"", ".deephi.code.a": END}, wide=True).read_bytes()
    cut = tmp_path / "cut.elf"
    for size in range(4, len(whole) - 24):
        cut.write_bytes(whole[:size])
        with pytest.raises(ToolError):
            streams(cut)


@pytest.mark.parametrize(
    ("fingerprint", "code", "what"),
    [
        (B4096_ISA1, b"", "the file holds no DPU code"),
        (None, END, "no fingerprint says for which core this code is"),
        (0x020200000000002A, END, "the code is of another machine than DPUCZDX8G"),
        (0x0102000000000000, END, "the code is of another machine than DPUCZDX8G"),
    ],
)
def test_refusals(tmp_path: Path, fingerprint: int | None, code: bytes, what: str) -> None:
    with pytest.raises(ToolError) as caught:
        streams(_xmodel(tmp_path / "a.xmodel", fingerprint, code))
    assert caught.value.what == what
    assert "vai_c_xir" in caught.value.hint


def test_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "noise.xmodel").write_bytes(b"\xff" * 64)
    for name in ("noise.xmodel", "absent.xmodel"):
        with pytest.raises(ToolError, match="cannot read the file"):
            streams(tmp_path / name)


def test_damaged_code_names_the_program(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot decode dpu: ISA1 has no opcode 0x3"):
        disassemble(_xmodel(tmp_path / "a.xmodel", B4096_ISA1, END + struct.pack("<I", 0x30000000)))


def test_the_verb_prints_programs(tmp_path: Path) -> None:
    file = _xmodel(tmp_path / "a.xmodel", B4096_ISA1, END, layer=END * 2)
    plain = CliRunner().invoke(app, ["disasm", str(file)])
    assert plain.exit_code == 0
    assert "dpu: ISA1, fingerprint 0x101000056010407, 4 bytes" in plain.output
    assert "  000000  END      wait SAVE post SAVE" in plain.output
    assert "1 instructions: 1 END" in plain.output and "conv" not in plain.output
    assert "conv: ISA1" in CliRunner().invoke(app, ["disasm", str(file), "--layers"]).output


def test_the_verb_tells_what_is_wrong_with_the_tokens(tmp_path: Path) -> None:
    """END takes a token from CONV that nobody posts."""
    file = _xmodel(tmp_path / "a.xmodel", B4096_ISA1, struct.pack("<I", 0x74000000))
    printed = CliRunner().invoke(app, ["disasm", str(file)]).output
    assert "tokens CONV → SAVE: 0 posted, 1 taken  NOT BALANCED" in printed
    assert "instruction 0 waits for ever: END" in printed


def test_the_verb_as_json(shared: Path) -> None:
    file = shared / "golden" / "real" / "tf2_zcu102_v3.0.xmodel"
    done = CliRunner().invoke(app, ["disasm", str(file), "--json"])
    first, second = json.loads(done.output)
    assert (first["bytes"], len(first["instructions"]), first["balanced"], first["stuck_at"]) == (3676, 185, True, None)
    assert first["engines"] == {"LOAD": 159, "SAVE": 3, "CONV": 18, "MISC": 5}
    last = second["instructions"][-1]
    assert last == {"offset": 360, "name": "END", "depends_on": ["SAVE"], "depended_by": ["SAVE"], "fields": {}}
    bias = first["instructions"][0]["fields"]
    assert (bias["channel"], bias["bank_id"], bias["reg_id"]) == (32, 33, 0)
