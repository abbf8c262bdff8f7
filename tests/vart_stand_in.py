"""VART's Python modules as its documentation has them, on the simulator: `xir`, `vart` and `pynq_dpu` for the tests.

A runner executes the instruction words that stand in the .xmodel. It is as strict as the real one is dangerous: arrays
are taken as flat memory in the order of its tensors (by name), so that another order, type, size or a stride is an
assertion here; every job must be waited for, and two threads in one runner are refused.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from lowwatt.compiler.xmodel_parts import Part, Place, read_parts
from lowwatt.ir.xmodel_proto import decode, messages
from lowwatt.sim.execute import Executor
from lowwatt.sim.state import Memory
from lowwatt.targets import Target


class Tensor:
    """xir.Tensor: a name, dims and attributes."""

    def __init__(self, name: str, dims: tuple[int, ...], fix_point: int) -> None:
        self.name, self.dims, self.ndim, self.dtype = name, list(dims), len(dims), "xint8"
        self._attrs = {"fix_point": fix_point, "bit_width": 8}

    def has_attr(self, key: str) -> bool:
        return key in self._attrs

    def get_attr(self, key: str) -> int:
        return self._attrs[key]


class Subgraph:
    """xir.Subgraph of the root: attributes as the file has them."""

    def __init__(self, name: str, attrs: Mapping[str, Any], part: Part | None, points: Mapping[str, int]) -> None:
        self.part, self.points, self._name, self._attrs = part, points, name, dict(attrs)

    def get_name(self) -> str:
        return self._name

    def has_attr(self, key: str) -> bool:
        return key in self._attrs

    def get_attr(self, key: str) -> Any:
        return self._attrs[key]


class Graph:
    """xir.Graph: a compiled .xmodel."""

    def __init__(self, path: str) -> None:
        message = messages()["Graph"]()
        message.ParseFromString(Path(path).read_bytes())
        parts = iter(read_parts(path))
        points = {op.op_name: _fix_point(op) for op in message.op_node}
        self.children = []
        for child in message.subg_root.subg_child:
            attrs = {key: decode(value) for key, value in child.subg_attr.items()}
            self.children.append(
                Subgraph(child.subgraph_name, attrs, next(parts) if "mc_code" in attrs else None, points)
            )

    @classmethod
    def deserialize(cls, path: str) -> Graph:
        return cls(path)

    def get_root_subgraph(self) -> Graph:
        return self

    def toposort_child_subgraph(self) -> list[Subgraph]:
        return self.children


def _fix_point(op: Any) -> int:
    value = op.op_attr["fix_point"] if "fix_point" in op.op_attr else op.output_tensor.tensor_attr["fix_point"]
    return int(decode(value) or 0)


class Runner:
    """vart.Runner on a machine whose DPU is `board`."""

    board: Target

    def __init__(self, subgraph: Subgraph) -> None:
        assert subgraph.part is not None and subgraph.part.fingerprint == self.board.fingerprint
        self._part, self._points, self._busy, self._jobs = subgraph.part, subgraph.points, Lock(), 0
        self._waited: set[int] = set()

    @classmethod
    def create_runner(cls, subgraph: Subgraph, mode: str) -> Runner:
        assert mode == "run"
        return cls(subgraph)

    def get_input_tensors(self) -> list[Tensor]:
        return self._tensors(self._part.inputs)

    def get_output_tensors(self) -> list[Tensor]:
        return self._tensors(self._part.outputs)

    def _tensors(self, places: Mapping[str, Place]) -> list[Tensor]:
        return [Tensor(name, (1, *places[name].shape), self._points[name]) for name in sorted(places)]

    def execute_async(self, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> tuple[int, int]:
        assert self._busy.acquire(blocking=False), "two threads in one runner"
        self._check(inputs, self._part.inputs)
        self._check(outputs, self._part.outputs)
        memory = Memory(self.board, self._part.sizes, self._part.constants)
        for name, value in zip(sorted(self._part.inputs), inputs, strict=True):
            _map(memory, self._part.inputs[name])[...] = value[0]
        executor = Executor(memory)
        for instruction in self._part.instructions:
            executor.execute(instruction)
        for name, value in zip(sorted(self._part.outputs), outputs, strict=True):
            value[0] = _map(memory, self._part.outputs[name])
        self._jobs += 1
        return self._jobs, 0

    def wait(self, job: tuple[int, int]) -> int:
        assert job[0] == self._jobs and job[0] not in self._waited, "waited for another job"
        self._waited.add(job[0])
        self._busy.release()
        return 0

    @staticmethod
    def _check(arrays: list[np.ndarray], places: Mapping[str, Place]) -> None:
        for array, name in zip(arrays, sorted(places), strict=True):
            assert array.dtype == np.int8 and array.flags.c_contiguous and array.flags.writeable, name
            assert array.shape == (1, *places[name].shape), name


def _map(memory: Memory, place: Place) -> np.ndarray:
    return memory.map(place.register, place.address, place.shape, place.stride)


class DpuOverlay:
    """pynq_dpu.DpuOverlay; `downloads` counts how often the FPGA was loaded."""

    downloads = 0

    def __init__(self, bitfile_name: str, download: bool = True) -> None:
        if not Path(bitfile_name).is_file():
            raise FileNotFoundError(f"Cannot find {bitfile_name}.")
        self.bitfile_name = bitfile_name
        if download:
            self.download()

    def is_loaded(self) -> bool:
        return DpuOverlay.downloads > 0

    def download(self) -> None:
        DpuOverlay.downloads += 1


def install(patch: pytest.MonkeyPatch, board: Target) -> None:
    """Make `import vart`, `xir` and `pynq_dpu` give the stand-in, on a machine with that DPU."""
    DpuOverlay.downloads = 0
    runner = type("Runner", (Runner,), {"board": board})
    for name, contents in (
        ("xir", {"Graph": Graph}),
        ("vart", {"Runner": runner}),
        ("pynq_dpu", {"DpuOverlay": DpuOverlay}),
    ):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        vars(module).update(contents)
        patch.setitem(sys.modules, name, module)
