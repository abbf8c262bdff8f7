"""Compiled xmodels and the vendor: attributes and workloads of genuine files, demands of its library and runtime."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compiled_graphs import NETWORKS, subgraphs
from lowwatt.compiler import compile, xmodel_compiled
from lowwatt.compiler.workload import workload
from lowwatt.ir import xmodel
from lowwatt.ir.xmodel_proto import decode, messages
from lowwatt.targets import load_target

# What the genuine file has and ours has not:
NOTES = "quant_"
"""Its importer's notes on the TensorFlow quantizer."""
ABSENT = {
    ("subgraph layer", "mc_code"),  # a program of each layer alone, for the vendor's profiler
    ("subgraph layer", "mc_code_preload"),
}


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
    elements += [(_kind(s, s.subg_attr), s.subg_attr) for s in subgraphs(message.subg_root)]
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
    for make in NETWORKS:
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


# -- what the vendor's open library and runtime demand (docs/dpu.md 4.7, 4.8) -----------------------------------


def _every_file(shared: Path, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """Compiled files of our own networks and of every golden one, as messages."""
    graphs = [make() for make in NETWORKS]
    graphs += [xmodel.read(folder / "model.xmodel") for folder in sorted((shared / "golden").glob("case*"))]
    for graph in graphs:
        xmodel_compiled.write(compile(graph, "zcu102-vai3"), tmp_path / "a.xmodel")
        yield graph.name, messages()["Graph"].FromString((tmp_path / "a.xmodel").read_bytes())


def _definitions(path: Path) -> dict[str, dict[str, Any]]:
    """Required arguments and attributes (with their type) of the library's operators."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("## "):
            current = found.setdefault(words[1], {"args": set(), "attrs": {}})
        elif words[:1] == ["arg"] and words[2].startswith("REQUIRED"):
            current["args"].add(words[1])
        elif words[:1] == ["attr"] and words[2] == "REQUIRED":
            current["attrs"][words[1]] = words[3].partition(":")[0]
    return found


def test_operators_are_as_the_vendors_library_defines_them(shared: Path, tmp_path: Path) -> None:
    known = _definitions(shared / "facts" / "xir_opdefs.txt")
    unknown = set()
    for graph, message in _every_file(shared, tmp_path):
        seen: set[str] = set()
        for op in message.op_node:
            assert {name for arg in op.args for name in arg.arg_ops} <= seen, f"{graph}: {op.op_name} is not in order"
            seen.add(op.op_name)
            unknown |= {op.op_type} - known.keys()
            wanted = known.get(op.op_type, {"args": set(), "attrs": {}})
            assert wanted["args"] <= {arg.arg_name for arg in op.args}, f"{graph}: {op.op_name}"
            for key, kind in wanted["attrs"].items():
                assert op.op_attr[key].WhichOneof("value") == kind, f"{graph}: {op.op_name}: {key}"
        assert len(seen) == len(message.op_node)
    assert unknown <= {"reduction_mean-fix"}


def test_the_runtime_finds_every_map(shared: Path, tmp_path: Path) -> None:
    """As vart's dpu_session_base_imp.cpp looks for them: by the tensor's name and place, an input by its one upload."""
    for graph, message in _every_file(shared, tmp_path):
        ops = {op.op_name: op for op in message.op_node}
        assert len({op.output_tensor.tensor_name for op in message.op_node}) == len(ops)
        readers: dict[str, list[str]] = {name: [] for name in ops}
        for op in message.op_node:
            for name in (name for arg in op.args for name in arg.arg_ops):
                readers[name].append(op.op_name)
        assert all(len(readers[op.op_name]) == 1 for op in message.op_node if op.op_type.startswith("const"))
        for child in message.subg_root.subg_child:
            if "mc_code" in child.subg_attr:
                _check_part(graph, child, ops, readers)


def _check_part(graph: str, child: Any, ops: Mapping[str, Any], readers: Mapping[str, list[str]]) -> None:
    inside = {name for leaf in child.subg_child for name in leaf.op_name}
    for name in inside:
        op = ops[name]
        sources = {source for arg in op.args for source in arg.arg_ops}
        if op.op_type == "upload":
            assert [reader for source in sources for reader in readers[source] if reader in inside] == [name]
        else:
            assert sources <= inside, f"{graph}: {name} reads what was not uploaded"
        assert op.op_type == "download" or set(readers[name]) <= inside, f"{graph}: {name} is read undownloaded"
        place = op if op.op_type != "download" else ops[next(iter(sources))]
        attrs = {key: decode(value) for key, value in place.output_tensor.tensor_attr.items()}
        assert {"reg_id", "ddr_addr", "location"} <= attrs.keys(), f"{graph}: {name}"
        if op.op_type in ("upload", "download"):  # copied as one piece
            dims = list(place.output_tensor.tensor_dim)
            assert attrs["stride"] == [math.prod(dims[k + 1 :]) for k in range(len(dims))], f"{graph}: {name}"
            assert attrs["location"] == 1
