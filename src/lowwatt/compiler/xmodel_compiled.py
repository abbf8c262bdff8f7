"""A program as a compiled .xmodel, the file that the vendor's runtime takes (docs/dpu.md 4.6). Experimental.

Subgraphs as in genuine files: USER for each input, one DPU with the whole program and a leaf for each layer, CPU for
each output's way to float. No board has run such a file. What genuine files have besides: the importer's own notes
(quant_*), a program of each layer alone, the versions of the vendor's libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lowwatt.compiler.dram import CONSTANTS, INPUTS, OUTPUTS, WORKSPACE, Region
from lowwatt.compiler.program import Program
from lowwatt.compiler.segment import Segment
from lowwatt.compiler.workload import workload
from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir.graph import Node, Tensor
from lowwatt.ir.xmodel_emit import emit_fix
from lowwatt.ir.xmodel_proto import encode, messages
from lowwatt.targets import core_name
from lowwatt.types import Shape

_INT8, _FLOAT = (2, 8), (4, 32)  # Tensor.data_type and bit width (docs/dpu.md 4.1)
_REGISTERS = {CONSTANTS: "CONST", WORKSPACE: "WORKSPACE", INPUTS: "INTERFACE", OUTPUTS: "INTERFACE"}
_CPU = "libvart-cpu-runner.so"
_Attrs = Mapping[str, Any]


class _U64(int):
    """A number that the file holds as uint64."""


def write(program: Program, path: str | Path) -> None:
    """Write a quantized program that runs on the accelerator as a whole; the same program gives the same bytes.

    ToolError for a graph of floats, for operators on the host, and for those that the format has no integer form of.
    """
    write_bytes(path, _Writer(program, _only_segment(program)).finish())


def _only_segment(program: Program) -> Segment:
    what = "a compiled .xmodel holds programs of the accelerator alone"
    host = next((node for s in program.segments if s.side == "host" for node in s.graph.nodes), None)
    if host is not None:
        hint = "end the graph before it, or replace it (lowwatt check --rewrite)"
        raise ToolError(what, where=host.name, why=f"{host.op} runs on the host", hint=hint)
    segment, graph = program.segments[0], program.graph
    floats = next((name for name, tensor in graph.tensors.items() if tensor.quant is None), None)
    if floats is not None:
        raise ToolError("the program is of floats", where=floats, hint="run `lowwatt quantize` first")
    return segment


class _Writer:
    """Builds the message: operators in the graph's order, then the tree of subgraphs."""

    def __init__(self, program: Program, segment: Segment) -> None:
        self.target, self.segment, self.graph = program.target, segment, program.graph
        self.message = messages()["Graph"](graph_name=program.graph.name)
        self.value: dict[str, str] = {}
        self.used = set(program.graph.tensors)
        self.layer_of = {name: index for index, layer in enumerate(segment.layers) for name in layer.nodes}
        self.constants: dict[str, list[str]] = {}
        self.loads = _loads_of_constants(segment)

    def finish(self) -> bytes:
        """The file."""
        encode(self.message.graph_attr["origin"], "lowwatt")
        root = self.message.subg_root
        root.subgraph_name = "root"
        _set(root.subg_attr, self._workload(self.graph.nodes))
        uploads = [self._input(root, name) for name in self.graph.inputs]
        for node in self.graph.nodes:
            self._node(node)
        downloads = [self._op(f"{name}_download_0", "download", name, {"input": [name]}) for name in self.graph.outputs]
        self._dpu(root, uploads, downloads)
        for name, download in zip(self.graph.outputs, downloads, strict=True):
            self._output(root, name, download)
        data: bytes = self.message.SerializeToString(deterministic=True)
        return data

    # -- operators ------------------------------------------------------------------------------------------------

    def _op(
        self,
        name: str,
        kind: str,
        tensor: str,
        args: Mapping[str, Sequence[str]],
        attrs: _Attrs | None = None,
        at: _Attrs | None = None,
        device: str = "DPU",
    ) -> str:
        """Add an operator whose output is `tensor` of the graph, `at` its place in memory; returns its name."""
        while name in self.used and name not in self.graph.tensors:
            name += "_"
        self.used.add(name)
        op = self.message.op_node.add(op_name=name, op_type=kind)
        for argument, producers in args.items():
            op.args.add(arg_name=argument, arg_ops=producers)
        _set(op.op_attr, {"device": device, **(attrs or {})})
        shape, out = self.graph.tensor(tensor).shape, op.output_tensor
        out.tensor_name = name
        out.tensor_dim.extend(shape)
        out.data_type, out.tensor_bit_width = _FLOAT if kind == "fix2float" else _INT8
        if kind != "fix2float":
            _set(out.tensor_attr, {**_format(self.graph.tensor(tensor)), **(at or {})})
        return name

    def _place(self, name: str) -> _Attrs:
        """Where a tensor lies: in DRAM, or (location 0) only in the banks of the accelerator."""
        region = self.segment.dram.regions.get(name)
        if region is None:
            return {"location": 0, "ddr_addr": 0, "reg_id": WORKSPACE}
        place = {"location": 1, "ddr_addr": region.address, "reg_id": region.register}
        if region.register == CONSTANTS:
            return place
        return {**place, "stride": _strides(self.graph.tensor(name).shape, region)}

    def _input(self, root: Any, name: str) -> str:
        shape = list(self.graph.tensor(name).shape)
        self._op(name, "data-fix", name, {}, {"shape": shape, "data_type": "XINT8"}, device="USER")
        child = root.subg_child.add(subgraph_name=f"subgraph_{name}", op_name=[name])
        _set(child.subg_attr, {"device": "USER", **_no_work()})
        self.value[name] = self._op(f"{name}_upload_0", "upload", name, {"input": [name]}, at=self._place(name))
        return self.value[name]

    def _node(self, node: Node) -> None:
        operands = [self.value.get(name) or self._constant(node, name) for name in node.inputs]
        kind, args, attrs = emit_fix(self.graph, node, operands)
        work = self._workload([node]) if any(workload(node, self.graph, self.target)) else {}
        self.value[node.name] = self._op(node.name, kind, node.name, args, {**attrs, **work}, self._place(node.name))

    def _constant(self, node: Node, name: str) -> str:
        """A constant at its first use, with its integers, which genuine files leave out: so it can be read back."""
        tensor = self.graph.tensor(name)
        assert tensor.data is not None
        attrs = {"shape": list(tensor.shape), "data_type": "XINT8", "data": tensor.data.tobytes()}
        place = self._place(name)
        if name not in self.segment.dram.regions:
            place = {"location": 1, "ddr_addr": self._first_load(node, name), "reg_id": CONSTANTS}
        self.value[name] = self._op(name, "const-fix", name, {}, attrs, place)
        self.constants.setdefault(node.name, []).append(name)
        return name

    def _first_load(self, node: Node, name: str) -> int:
        """Lowest address of constants from which the node's layer loads into the banks of this kind."""
        weights = self.target.weight_banks
        kernel = range(weights.stop, weights.stop + 1) if node.op == "depthwise_conv2d" else weights
        banks = range(weights.stop + 1, weights.stop + 2) if node.inputs.index(name) > 1 else kernel
        loads = self.loads.get(self.layer_of.get(node.name, -1), [])
        return min((address for bank, address in loads if bank in banks), default=0)

    def _output(self, root: Any, name: str, download: str) -> None:
        form = _format(self.graph.tensor(name))
        op = self._op(f"{name}_float", "fix2float", name, {"input": [download]}, form, device="CPU")
        child = root.subg_child.add(subgraph_name=f"subgraph_{op}", op_name=[op])
        runner = {"ref": _CPU, "sim": _CPU, "run": _CPU}
        _set(child.subg_attr, {"device": "CPU", "runner": runner, **_no_work()})

    # -- subgraphs ------------------------------------------------------------------------------------------------

    def _dpu(self, root: Any, uploads: Sequence[str], downloads: Sequence[str]) -> None:
        child = root.subg_child.add(subgraph_name=f"subgraph_{self.graph.nodes[0].name}")
        for upload in uploads:
            leaf = child.subg_child.add(subgraph_name=f"subgraph_{upload}", op_name=[upload])
            _set(leaf.subg_attr, {"skip_code_gen": True, **_no_work()})
        layers = []
        for nodes, has_code in self._leaves():
            title = f"subgraph_{nodes[0].name}"
            names = [name for node in nodes for name in (*self.constants.get(node.name, ()), node.name)]
            leaf = child.subg_child.add(subgraph_name=title, op_name=names)
            _set(leaf.subg_attr, self._workload(nodes) if has_code else {"skip_code_gen": True, **_no_work()})
            layers.append(title)
        for download in downloads:
            leaf = child.subg_child.add(subgraph_name=f"subgraph_{download}", op_name=[download])
            _set(leaf.subg_attr, _no_work())
        _set(child.subg_attr, {**self._registers(), **self._machine(), "children_topological_sort": layers})

    def _machine(self) -> dict[str, Any]:
        return {
            "device": "DPU",
            "dpu_name": core_name(self.target.core),
            "dpu_fingerprint": _U64(self.target.fingerprint),
            "mc_code": self.segment.code,
            "mc_code_preload": b"",
            "if_prefetch": False,
            "debug_mode": "function",
            "runner": {"ref": _CPU, "sim": "libvart-sim-runner.so", "run": "libvart-dpu-runner.so"},
            **self._workload(self.graph.nodes),
        }

    def _registers(self) -> dict[str, Any]:
        names = {register: f"REG_{register}" for register in _REGISTERS}
        sizes, constants = self.segment.dram.sizes, self.segment.dram.constants
        return {
            "reg_id_to_context_type": {n: "CONST" if k == CONSTANTS else "DATA" for k, n in names.items()},
            "reg_id_to_context_type_v2": {names[k]: kind for k, kind in _REGISTERS.items()},
            "reg_id_to_hw_segment": {n: "W0" if k == CONSTANTS else "D0" for k, n in names.items()},
            "reg_id_to_size": {n: sizes.get(k, 0) for k, n in names.items()},
            "reg_id_to_parameter_value": {names[CONSTANTS]: constants},
        }

    def _leaves(self) -> Iterator[tuple[list[Node], bool]]:
        """Nodes of each layer, and each node that costs no instruction alone; in an order that the data allow."""
        groups: dict[int | str, list[Node]] = {}
        for node in self.graph.nodes:
            groups.setdefault(self.layer_of.get(node.name, node.name), []).append(node)
        order = {node.name: k for k, node in enumerate(self.graph.nodes)}
        for key, nodes in sorted(groups.items(), key=lambda item: order[item[1][-1].name]):
            yield nodes, isinstance(key, int)

    def _workload(self, nodes: Sequence[Node]) -> dict[str, _U64]:
        work = [workload(node, self.graph, self.target) for node in nodes]
        real, on_arch = (_U64(sum(column)) for column in zip(*work, strict=True))
        return {"workload": real, "workload_on_arch": on_arch}


def _loads_of_constants(segment: Segment) -> dict[int, list[tuple[int, int]]]:
    """For each layer the bank and address of every load of constants."""
    found: dict[int, list[tuple[int, int]]] = {}
    for one, layer in zip(segment.instructions, segment.owners, strict=True):
        if one.name == "LOAD" and one.numbers["reg_id"] == CONSTANTS:
            found.setdefault(layer, []).append((one.numbers["bank_id"], one.numbers["ddr_addr"]))
    return found


def _no_work() -> dict[str, _U64]:
    return {"workload": _U64(0), "workload_on_arch": _U64(0)}


def _format(tensor: Tensor) -> dict[str, Any]:
    assert tensor.quant is not None  # `write` saw to it
    fix_point = tensor.quant.fix_point
    return {"fix_point": fix_point, "bit_width": 8, "if_signed": True, "round_mode": "DPU_ROUND"}


def _strides(shape: Shape, region: Region) -> list[int]:
    """Bytes from one element to the next, along each dimension."""
    if len(shape) == 4:
        return [region.height * region.row_bytes, region.row_bytes, region.pixel_bytes, 1]
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return strides


def _set(into: Any, attrs: _Attrs) -> None:
    for key, value in attrs.items():
        if isinstance(value, _U64):
            into[key].uint64_value = int(value)
        elif isinstance(value, dict):
            _set_map(into[key], value)
        else:
            encode(into[key], value)


def _set_map(into: Any, values: Mapping[str, Any]) -> None:
    """A map from names to whole numbers, text or bytes."""
    for name, value in values.items():
        if isinstance(value, bytes):
            into.map_string_2_bytes_value.value[name].value = value
        elif isinstance(value, str):
            into.map_string_2_string_value.value[name] = value
        else:
            into.map_string_2_int32_value.value[name] = value
