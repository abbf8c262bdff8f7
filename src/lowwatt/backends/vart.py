"""A real board: the vendor's runtime (VART), as it is on Vitis AI's images, and under PYNQ with its DPU overlay.

One backend has one runner for each segment of the accelerator, which one thread uses at a time; an engine on several of
them, `Engine(program, [VartBackend(program), VartBackend(program)])`, keeps a DPU busy while results are fetched.
The interface is that of VART's Python module (Vitis-AI v3.5, vart/runner/python/src/runner_py_module.cpp): arrays are
taken as flat memory in the order of the runner's own tensors, and int8 ones go to the DPU as they are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.backends.base import BackendStatus, module_status, quants_of
from lowwatt.backends.mixed import MixedBackend
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array, Shape

_QUERY = ("xdputil", "query")
_QUERY_SECONDS = 20.0
_OTHER_NETWORK = "compile this program's own graph: lowwatt export FILE --format xmodel, then vai_c_xir"


class VartBackend(MixedBackend):
    """Runs a Program on the board's DPU; what the program leaves to the host runs on the backend `host`.

    `xmodel` is the compiled file, from vai_c_xir or `lowwatt export --format xmodel-compiled`; None: the program's own
    instruction words (experimental). ToolError where the board has another DPU than the program was compiled for, and
    where the file holds another network.
    """

    name = "vart"

    def __init__(self, source: Any, *, xmodel: str | Path | None = None, host: str = "core") -> None:
        machine = getattr(source, "target", None)
        if machine is None:
            raise ToolError(f"the {self.name} backend runs programs", hint="lowwatt compile the graph first")
        xir, self._vart = self._modules()
        _check_board(self.board_fingerprint(), machine.fingerprint)
        self._file = _read(xir, source, xmodel)  # runners point into it
        self._left = _accelerator(self._file, machine.fingerprint)
        super().__init__(source, self._open, host)
        if next(self._left, None) is not None:
            raise ToolError("the .xmodel has more DPU subgraphs than the program", hint=_OTHER_NETWORK)

    def _open(self, graph: Graph) -> DpuRunner:
        subgraph = next(self._left, None)
        if subgraph is None:
            raise ToolError("the .xmodel has fewer DPU subgraphs than the program", hint=_OTHER_NETWORK)
        return DpuRunner(self._vart.Runner.create_runner(subgraph, "run"), graph)

    def _modules(self) -> tuple[Any, Any]:
        self.status().require()
        import vart  # type: ignore[import-not-found]
        import xir  # type: ignore[import-not-found]

        return xir, vart

    def board_fingerprint(self) -> int | None:
        """What the board itself says of its DPU; None where it does not say."""
        return _queried() if shutil.which(_QUERY[0]) else None

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether VART's modules are installed."""
        how = "on the board: an image of Vitis AI, which has vart and xir"
        found = module_status(cls.name, "vart", how)
        return module_status(cls.name, "xir", how) if found.usable else found


class PynqBackend(VartBackend):
    """As vart, with the DPU loaded into the FPGA first.

    `overlay` is the bit file, by default that of pynq_dpu's for the board, or an overlay that is loaded already.
    """

    name = "pynq"

    def __init__(
        self, source: Any, *, xmodel: str | Path | None = None, host: str = "core", overlay: Any = "dpu.bit"
    ) -> None:
        self._overlay = overlay
        super().__init__(source, xmodel=xmodel, host=host)

    def _modules(self) -> tuple[Any, Any]:
        self.status().require()
        if isinstance(self._overlay, (str, Path)):
            self._overlay = _loaded(self._overlay)
        return super()._modules()

    def board_fingerprint(self) -> int | None:
        """That of the hand-off file beside the bit file."""
        from lowwatt.targets import handoff
        from lowwatt.targets.fingerprint import fingerprint

        described = Path(self._overlay.bitfile_name).with_suffix(".hwh")
        return fingerprint(handoff.read(described).core) if described.is_file() else super().board_fingerprint()

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether PYNQ's module is installed."""
        found = super().status()
        how = "on the board: pip install pynq-dpu, on an image of PYNQ"
        return module_status(cls.name, "pynq_dpu", how) if found.usable else found


class DpuRunner:
    """One segment on the DPU, with a runner of its own; a backend like any other, for one thread at a time."""

    name = "vart"

    def __init__(self, runner: Any, graph: Graph) -> None:
        self._runner, self._graph = runner, graph
        self.inputs, self.outputs, self.quants = tuple(graph.inputs), tuple(graph.outputs), quants_of(graph)
        self._given = _bound(runner.get_input_tensors(), [graph.tensor(name) for name in graph.inputs])
        self._found = _bound(runner.get_output_tensors(), [graph.tensor(name) for name in graph.outputs])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers."""
        return interpreter.in_batches(self._graph, inputs, self._run_image)

    def _run_image(self, values: dict[str, Array]) -> dict[str, Array]:
        given = [np.require(values[tensor.name], np.int8, ["C", "W"]) for tensor in self._given]
        found = [np.empty(tensor.shape, np.int8) for tensor in self._found]
        status = self._runner.wait(self._runner.execute_async(given, found))
        if status:
            raise ToolError("the DPU did not finish", why=f"vart's status is {status}", hint="dmesg says more")
        return {tensor.name: value for tensor, value in zip(self._found, found, strict=True)}


# -- the board ---------------------------------------------------------------------------------------------------


def _queried() -> int | None:
    """Fingerprint that `xdputil query` prints."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True)
        kernels = json.loads(done.stdout)["kernels"]
        return next(int(kernel["fingerprint"], 16) for kernel in kernels if "fingerprint" in kernel)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, StopIteration):
        return None  # other versions print other things; VART itself compares, too


def _check_board(board: int | None, program: int) -> None:
    if board is not None and board != program:
        why = f"the board's fingerprint is {board:#x}, the program's {program:#x}"
        raise ToolError(
            "the program was compiled for another DPU", why=why, hint=f"lowwatt compile FILE --target {board:#x}"
        )


def _loaded(bit: str | Path) -> Any:
    """The overlay, loaded unless it is there already: loading it again would stop who works on it."""
    from pynq_dpu import DpuOverlay  # type: ignore[import-not-found]

    try:
        overlay = DpuOverlay(str(bit), download=False)
        if not overlay.is_loaded():
            overlay.download()
    except (OSError, ValueError, RuntimeError) as error:
        raise ToolError("the DPU's overlay cannot be loaded", where=str(bit), why=str(error)) from None
    return overlay


# -- the file ----------------------------------------------------------------------------------------------------


def _read(xir: Any, program: Any, xmodel: str | Path | None) -> Any:
    """The compiled file, opened; the program's own words where there is none."""
    if xmodel is not None:
        if not Path(xmodel).is_file():
            raise ToolError("no such file", where=str(xmodel))
        return xir.Graph.deserialize(str(xmodel))
    from lowwatt.compiler import xmodel_compiled

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.xmodel"
        xmodel_compiled.write(program, path)
        return xir.Graph.deserialize(str(path))


def _accelerator(file: Any, fingerprint: int) -> Iterator[Any]:
    """The DPU's subgraphs in order of execution; ToolError for one that was compiled for another DPU."""
    for subgraph in file.get_root_subgraph().toposort_child_subgraph():
        if not (subgraph.has_attr("device") and subgraph.get_attr("device").upper() == "DPU"):
            continue
        theirs = subgraph.get_attr("dpu_fingerprint") if subgraph.has_attr("dpu_fingerprint") else fingerprint
        if int(theirs) != fingerprint:
            why = f"its fingerprint is {int(theirs):#x}, the program's {fingerprint:#x}"
            raise ToolError("the .xmodel was compiled for another DPU", where=subgraph.get_name(), why=why)
        yield subgraph


def _bound(theirs: Sequence[Any], ours: Sequence[Tensor]) -> list[Tensor]:
    """Our tensors in the order of the runner's: by name, else the only one of that shape and fix point."""
    left = list(ours)
    bound = []
    for tensor in theirs:
        found = _match(tensor, left)
        left.remove(found)
        bound.append(found)
    if left:
        raise ToolError("the .xmodel lacks a tensor of the program", where=left[0].name, hint=_OTHER_NETWORK)
    return bound


def _match(theirs: Any, left: Sequence[Tensor]) -> Tensor:
    shape: Shape = tuple(theirs.dims)
    point = theirs.get_attr("fix_point") if theirs.has_attr("fix_point") else None
    fitting = [t for t in left if t.shape == shape and t.quant is not None and point in (None, t.quant.fix_point)]
    named = [t for t in fitting if theirs.name in (t.name, f"{t.name}_fix")]
    if len(found := named or fitting) == 1:
        return found[0]
    why = f"{len(found)} tensors of the program have shape {shape} and fix point {point}"
    raise ToolError("a tensor of the .xmodel is not the program's", where=theirs.name, why=why, hint=_OTHER_NETWORK)
