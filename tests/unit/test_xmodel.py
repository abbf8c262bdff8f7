"""Writing and reading .xmodel files: what a file holds, round trips, refusals, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import run
from lowwatt.ir.xmodel import read, write
from lowwatt.ir.xmodel_proto import decode, encode, messages
from lowwatt.types import QuantParams

Q = QuantParams.power_of_two
CASES = Path(__file__).parent.parent / "golden" / "cases"


def _ints(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(-128, 128, shape, dtype=np.int8)


def _network() -> Graph:
    """Every operator that the format has, once."""
    g = Graph("net")
    g.add_input("x", (1, 8, 8, 4), Q(5))
    g.add_constant("w1", _ints(6, 3, 3, 2), Q(7))
    g.add_constant("b1", _ints(6), Q(6))
    g.add("conv2d", ["x", "w1", "b1"], "c1", quant=Q(4), pad=(1, 0, 0, 1), group=2, activation="relu")
    g.add_constant("w2", _ints(1, 3, 3, 6), Q(6))
    g.add("depthwise_conv2d", ["c1", "w2"], "c2", quant=Q(3), pad=(1, 1, 1, 1), activation="leaky_relu")
    g.add_constant("w3", _ints(6, 2, 2, 6), Q(6))
    g.add("transposed_conv2d", ["c2", "w3"], "c3", quant=Q(4), stride=(2, 2), activation="relu6")
    g.add("max_pool", ["c3"], "p1", quant=Q(4), kernel=(2, 2), stride=(2, 2), ceil_mode=True)
    g.add("avg_pool", ["p1"], "p2", quant=Q(4), kernel=(3, 3), stride=(1, 1), pad=(1, 1, 1, 1))
    g.add("add", ["p1", "p2", "c2"], "a", quant=Q(2), activation="relu")
    g.add("mul", ["a", "p2"], "m", quant=Q(3))
    g.add("concat", ["a", "m"], "cat", quant=Q(2), axis=3)
    g.add("resize", ["cat"], "up", quant=Q(2), scale=(2, 3))
    g.add("resize", ["cat"], "up2", quant=Q(2), scale=(2, 2), mode="bilinear", half_pixel=True)
    g.add("hard_sigmoid", ["up2"], "h", quant=Q(7))
    g.add("hard_swish", ["up2"], "s", quant=Q(2))
    begin, end, strides = (0, 0, 1, 0), (1, 14, 14, 12), (1, 2, 2, 1)
    g.add("slice", ["up"], "cut", quant=Q(2), begin=begin, end=end, strides=strides)
    g.add("pad", ["cut"], "wide", quant=Q(2), pads=(0, 0, 1, 2, 0, 0, 0, 0), value=1.25)
    g.add("transpose", ["wide"], "t", quant=Q(2), order=(0, 3, 1, 2))
    g.add("reduce_max", ["t"], "top", quant=Q(2), axes=(2, 3), keepdims=False)
    g.add("reshape", ["top"], "flat", quant=Q(2), shape=(1, 12))
    g.add_constant("w4", _ints(5, 12), Q(7))
    g.add_constant("b4", _ints(5), Q(4))
    g.add("linear", ["flat", "w4", "b4"], "fc", quant=Q(1))
    g.add("fix", ["fc"], "moved", quant=Q(-1))
    g.outputs = ["h", "s", "fc", "moved"]
    return g.verify()


def _message(path: Path) -> Any:
    return messages()["Graph"].FromString(path.read_bytes())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write(_network(), tmp_path / "net.xmodel")
    return tmp_path / "net.xmodel"


def test_round_trip_keeps_the_integers(written: Path) -> None:
    graph, again = _network(), read(written).verify()
    inputs = {"x": _ints(1, 8, 8, 4)}
    ours, theirs = run(graph, inputs), run(again, inputs)
    assert list(theirs) == graph.outputs
    for name in graph.outputs:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def test_round_trip_keeps_the_content(written: Path) -> None:
    """All but hard_swish, which the format writes as hard-sigmoid and mul."""
    graph, again = _network(), read(written)
    nodes = {n.name: n for n in again.nodes}
    for node in graph.nodes:
        if node.op != "hard_swish":
            assert (nodes[node.name].op, nodes[node.name].inputs) == (node.op, node.inputs)
            assert nodes[node.name].attrs == node.attrs
    for name, tensor in graph.tensors.items():
        other = again.tensor(name)
        assert (other.shape, other.dtype, other.quant) == (tensor.shape, tensor.dtype, tensor.quant)
        assert tensor.data is None or np.array_equal(tensor.data, other.data)
    assert set(again.tensors) - set(graph.tensors) == {"s_gate"}


def test_written_twice_the_bytes_are_the_same(written: Path, tmp_path: Path) -> None:
    write(_network(), tmp_path / "second.xmodel")
    assert written.read_bytes() == (tmp_path / "second.xmodel").read_bytes()


def test_the_file_is_as_the_vendors_compiler_takes_it(written: Path) -> None:
    """docs/dpu.md 4.5 and 4.7."""
    message = _message(written)
    ops = {op.op_name: op for op in message.op_node}
    readers: dict[str, list[str]] = {name: [] for name in ops}
    seen: set[str] = set()
    for op in message.op_node:
        producers = [p for arg in op.args for p in arg.arg_ops]
        assert set(producers) <= seen, "not in topological order"
        seen.add(op.op_name)
        for producer in producers:
            readers[producer].append(op.op_name)
        assert op.op_name.replace("_", "").isalnum() and op.output_tensor.tensor_name == op.op_name
    assert len(ops) == len(message.op_node)
    assert all(len(readers[n]) == 1 for n, op in ops.items() if op.op_type == "const")
    assert all(decode(op.op_attr["round_mode"]) == "DPU_ROUND" for op in ops.values() if op.op_type == "fix")
    assert decode(message.graph_attr["return_ops"]) == ["h_fix", "s_fix", "fc_fix", "moved"]
    assert list(message.subg_root.op_name) == list(ops)
    assert not [r for n, op in ops.items() if op.op_type == "conv2d" for r in readers[n] if ops[r].op_type == "fix"]
    assert decode(ops["c1"].op_attr["pad"]) == [0, 1, 1, 0]


def test_parameters_lie_on_their_grid(written: Path) -> None:
    op = next(op for op in _message(written).op_node if op.op_name == "w1")
    values = np.frombuffer(decode(op.op_attr["data"]), "<f4").reshape(6, 3, 3, 2)
    np.testing.assert_array_equal(values * 2.0**7, _ints(6, 3, 3, 2))


def test_names_become_the_formats(tmp_path: Path) -> None:
    graph = Graph()
    graph.add_input("in.put", (1, 4), Q(4))
    graph.add("relu", ["in.put"], "in_put", quant=Q(4))
    graph.outputs = [graph.add("relu", ["in_put"], "größe/1", quant=Q(4))]
    write(graph, tmp_path / "n.xmodel")
    again = read(tmp_path / "n.xmodel")
    assert (again.inputs, [n.name for n in again.nodes]) == (["in_put"], ["in_put_1", "gr__e_1"])


def test_relu_before_a_concat_of_its_fix_point_has_no_fix(tmp_path: Path) -> None:
    graph = Graph()
    graph.add_input("x", (1, 2, 2, 4), Q(4))
    graph.add("relu", ["x"], "r", quant=Q(3))
    graph.add("relu", ["x"], "other", quant=Q(2))
    graph.outputs = [graph.add("concat", ["r", "other"], "cat", quant=Q(3), axis=3)]
    write(graph, tmp_path / "c.xmodel")
    names = [op.op_name for op in _message(tmp_path / "c.xmodel").op_node]
    assert "r_fix" not in names and "other_fix" in names
    again = read(tmp_path / "c.xmodel")
    assert [again.tensor(n).quant for n in ("r", "other", "cat")] == [Q(3), Q(2), Q(3)]


def test_fused_hard_swish_is_written_apart(tmp_path: Path) -> None:
    graph = Graph()
    graph.add_input("x", (1, 4, 4, 3), Q(5))
    graph.add_constant("w", _ints(8, 1, 1, 3), Q(8))
    graph.outputs = [graph.add("conv2d", ["x", "w"], "y", quant=Q(4), activation="hard_swish", hsigmoid_in=3)]
    write(graph, tmp_path / "h.xmodel")
    again, x = read(tmp_path / "h.xmodel"), _ints(1, 4, 4, 3)
    assert [n.op for n in again.nodes] == ["conv2d", "hard_sigmoid", "mul"]
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], run(again, {"x": x})["y"])


@pytest.mark.parametrize(
    ("op", "attrs", "source", "out", "message"),
    [
        ("relu", {}, None, None, "not quantized"),
        ("relu", {}, Q(4), None, "cannot hold relu in float"),
        ("relu", {}, Q(4), Q(4, bits=16), "signed 8-bit"),
        ("silu", {}, Q(4), Q(4), "cannot hold silu in float"),
        ("relu", {}, Q(4), QuantParams(0.3), "no fix point"),
        # the format would keep the window that begins behind the map
        ("max_pool", {"kernel": (1, 1), "stride": (2, 2), "ceil_mode": True}, Q(4), Q(4), "another size"),
    ],
)
def test_what_the_format_lacks_is_refused(op, attrs, source, out, message, tmp_path: Path) -> None:
    graph = Graph()
    graph.add_input("x", (1, 4, 4, 4), source)
    graph.outputs = [graph.add(op, ["x"], "y", quant=out, **attrs)]
    with pytest.raises(ToolError, match=message):
        write(graph, tmp_path / "no.xmodel")
    assert not (tmp_path / "no.xmodel").exists()


# -- reading files that are not as they should be --------------------------------------------------------------


def _file(tmp_path: Path, edit: Any, case: str = "case021_conv-relu-A") -> Path:
    """A golden case with its message changed by `edit(ops by name, message)`."""
    message = _message(CASES / case / "model.xmodel")
    edit({op.op_name: op for op in message.op_node}, message)
    (tmp_path / "edited.xmodel").write_bytes(message.SerializeToString())
    return tmp_path / "edited.xmodel"


def _set(name: str, key: str, value: Any) -> Any:
    def edit(ops: Any, message: Any) -> None:
        ops[name].op_attr[key].Clear()
        if value is not None:
            encode(ops[name].op_attr[key], value)

    return edit


def _dims(ops: Any, message: Any) -> None:
    ops["c"].output_tensor.tensor_dim[1] += 1


def _order(ops: Any, message: Any) -> None:
    nodes = list(reversed(message.op_node))
    copies = [messages()["OPNode"].FromString(n.SerializeToString()) for n in nodes]
    del message.op_node[:]
    message.op_node.extend(copies)


def _twice(ops: Any, message: Any) -> None:
    message.op_node.add().CopyFrom(message.op_node[0])


def _outputs(ops: Any, message: Any) -> None:
    del message.graph_attr["return_ops"].string_vec_value.value[:]
    message.graph_attr["return_ops"].string_vec_value.value.append("nobody")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_dims, "stated shape does not follow"),
        (_order, "not in order"),
        (_twice, "two operators of one name"),
        (_outputs, "return_ops names no operator"),
        (_set("c", "kernel", None), "kernel is missing"),
        (_set("c", "kernel", [3, 5]), "kernel is not that of the weights"),
        (_set("c", "stride", "two"), "stride must be whole numbers"),
        (_set("c", "stride", [0, 0]), "at least 1"),
        (_set("c", "pad_mode", "REFLECT"), "pad_mode REFLECT"),
        (_set("c", "group", 3), "group 3 does not divide"),
        (_set("x_fix", "fix_point", 1 << 30), "no usable fix_point"),
        (_set("x_fix", "bit_width", 0), "no usable bit_width"),
        (_set("x_fix", "round_mode", "UP"), "unknown round_mode"),
        (_set("x", "shape", [1, 0, 9, 4]), "at least 1"),
        (_set("c_weight", "data", b"\0" * 7), "does not fit its shape"),
        (_set("c_weight", "shape", [1 << 30] * 4), "does not fit its shape"),
        (_set("c_weight", "data_type", "COMPLEX"), "cannot read the constant"),
    ],
)
def test_wrong_files_are_refused(edit: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        read(_file(tmp_path, edit))
    assert message in str(error.value) and "edited.xmodel" in str(error.value)


def test_an_unknown_operator_becomes_custom(tmp_path: Path) -> None:
    def edit(ops: Any, message: Any) -> None:
        ops["c_act"].op_type = "Mine"
        for key, value in {"shape": list(ops["c_act"].output_tensor.tensor_dim), "level": 3}.items():
            encode(ops["c_act"].op_attr[key], value)

    graph = read(_file(tmp_path, edit)).verify()
    node = graph.node("c_act")
    assert (node.op, node.attrs["type"], node.attrs["params"]) == ("custom", "Mine", {"level": 3})
    with pytest.raises(ToolError, match="cannot run") as error:
        run(graph, {"x": np.zeros(graph.tensor("x").shape, np.float32)})
    assert error.value.where in ("c", "c_act")


def test_constants_without_data_are_read_and_refused_when_run(tmp_path: Path) -> None:
    graph = read(_file(tmp_path, _set("c_weight", "data", b"")))
    with pytest.raises(ToolError, match="no data") as error:
        run(graph, {"x": np.zeros(graph.tensor("x").shape, np.float32)})
    assert error.value.where == "c_weight"
    with pytest.raises(ToolError, match="no data"):
        write(graph, tmp_path / "no.xmodel")


def test_a_factor_that_is_not_the_dpus_is_refused(written: Path, tmp_path: Path) -> None:
    message = _message(written)
    constant = next(op for op in message.op_node if op.op_name == "p2_i1")
    constant.op_attr["data"].bytes_value.value = np.array([1.0], "<f4").tobytes()
    written.write_bytes(message.SerializeToString())
    with pytest.raises(ToolError, match="not the DPU's") as error:
        read(written)
    assert error.value.where == "p2"


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"not a model", b"\x89PNG\r\n\x1a\n" * 9, b"\x0a\x05hello", b"PK\3\4" * 20]
)
def test_foreign_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "foreign.xmodel").write_bytes(data)
    with pytest.raises(ToolError):
        read(tmp_path / "foreign.xmodel")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot read"):
        read(tmp_path / "none.xmodel")
    with pytest.raises(ToolError, match="cannot read"):
        read(tmp_path)


@pytest.mark.parametrize("case", sorted(p.name for p in CASES.iterdir() if p.is_dir()))
def test_damage_never_ends_in_anything_but_a_tool_error(case: str, tmp_path: Path) -> None:
    whole = (CASES / case / "model.xmodel").read_bytes()
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "damaged.xmodel", 0
    for trial in range(120):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: rng.integers(1, len(whole))]
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            read(path)
        except ToolError:
            refused += 1
    assert refused > 20


VALUES = [0, -1, 2**31 - 1, True, 1.5, float("nan"), "", "NONE", "SAME", b"", b"abc", [0], [0, 0], [-1, -1], [1] * 4]
VALUES += [[2**31 - 1] * 4, [1.0, 1e30], [float("nan")] * 2, ["a", "b"], [1] * 8]


@pytest.mark.parametrize("seed", range(4))
def test_wrong_attributes_never_end_in_anything_but_a_tool_error(seed: int, written: Path) -> None:
    rng, whole = np.random.default_rng(seed), written.read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for _ in range(150):
        message = messages()["Graph"].FromString(whole)
        op = message.op_node[rng.integers(len(message.op_node))]
        if op.op_attr and rng.random() < 0.7:
            key = sorted(op.op_attr)[rng.integers(len(op.op_attr))]
            op.op_attr[key].Clear()
            encode(op.op_attr[key], VALUES[rng.integers(len(VALUES))])
        else:
            op.op_type = message.op_node[rng.integers(len(message.op_node))].op_type
        written.write_bytes(message.SerializeToString())
        try:
            read(written).verify()
            outcomes["read"] += 1
        except ToolError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10
