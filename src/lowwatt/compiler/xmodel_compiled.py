"""A program as a compiled .xmodel, the file that the vendor's runtime loads (docs/dpu.md 4.8). Experimental.

Subgraphs as in genuine files: USER for each input, DPU for each segment of the accelerator with a leaf for each layer,
CPU for each segment of the host and for each output's way to float. No board has run such a file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lowwatt import __version__
from lowwatt.compiler.program import Program
from lowwatt.compiler.workload import Work
from lowwatt.compiler.xmodel_accelerator import Accelerator, add
from lowwatt.compiler.xmodel_file import Attrs, Form, XModelFile, number_format, subgraph, work
from lowwatt.compiler.xmodel_host import CPU_RUNNERS, Host
from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.ir import store
from lowwatt.ir.xmodel_proto import encode


def write(program: Program, path: str | Path) -> None:
    """Write a quantized program; the same program gives the same bytes.

    Constants stand in the file twice: as the accelerator reads them, and with their operators, where genuine files
    leave them out, so that the file can be read back and run. ToolError for a program of floats, of several images at
    once, and for operators that the format has no form of.
    """
    _check(program)
    write_bytes(path, _Writer(program).finish())


def _check(program: Program) -> None:
    for segment in program.segments:
        for name, tensor in segment.graph.tensors.items() if segment.side == "dpu" else ():
            if tensor.quant is None:
                raise ToolError("the program is of floats", where=name, hint="run `lowwatt quantize` first")
            if not tensor.is_constant and tensor.shape[:1] != (1,):
                why = f"its shape is {tensor.shape}"
                raise ToolError("a compiled .xmodel takes one image at a time", where=name, why=why)


class _Writer:
    """Writes the segments in order; `fixed` and `real` map tensors to operators that hold their integers and values."""

    def __init__(self, program: Program) -> None:
        self._program, self._graph = program, program.graph
        self._file = XModelFile(program.graph.name)
        self._root = self._file.message.subg_root
        self._root.subgraph_name = "root"
        self._fixed: dict[str, str] = {}
        self._real: dict[str, str] = {}

    def finish(self) -> bytes:
        """The file."""
        for name in self._graph.inputs:
            self._input(name)
        works = []
        for segment in self._program.segments:
            if segment.side == "dpu":
                works.append(Accelerator(self._file, segment, self._program.target, self._fixed).write(self._root))
            else:
                Host(self._file, segment.graph, self._fixed, self._real).write(self._root)
        self._finish_root(add(works))
        return self._file.finish([self._output(name) for name in self._graph.outputs], self._origin())

    def _finish_root(self, total: Work) -> None:
        for key, value in {"reserve_const_data": True, **work(total)}.items():
            encode(self._root.subg_attr[key], value)

    def _input(self, name: str) -> None:
        tensor = self._graph.tensor(name)
        kind, dtype, values = (
            ("data", "FLOAT32", self._real) if tensor.quant is None else ("data-fix", "XINT8", self._fixed)
        )
        attrs = {"shape": list(tensor.shape), "data_type": dtype, "device": "USER"}
        values[name] = self._file.op(name, kind, Form.of(tensor), {}, attrs)
        subgraph(self._root, values[name], {"device": "USER", **work((0, 0))}, [values[name]])

    def _output(self, name: str) -> str:
        """The operator that gives an output's real values, on the host as in genuine files."""
        if name in self._real:
            return self._real[name]
        if name not in self._fixed:
            raise ToolError("an output of a compiled .xmodel cannot be a constant", where=name)
        tensor = self._graph.tensor(name)
        attrs = {**number_format(tensor.quant), "device": "CPU"}
        op = self._file.op(f"{name}_float", "fix2float", Form(tensor.shape), {"input": [self._fixed[name]]}, attrs)
        subgraph(self._root, op, {"device": "CPU", "runner": CPU_RUNNERS, **work((0, 0))}, [op])
        return op

    def _origin(self) -> Attrs:
        """Who wrote the file, and of what: genuine ones name the versions of the vendor's libraries here."""
        content = hashlib.md5(b"".join(data for _, data in sorted(store.pack(self._graph).items())))
        return {
            "origin": "lowwatt",
            "libs_info": {"lowwatt": __version__},
            "files_md5sum": {f"{self._graph.name}.lwg": content.hexdigest()},
        }
