"""export: write the vendor's file or an ONNX, and prove on the spot that it is the same network."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.files import write_text
from lowwatt.ir.graph import Graph, Tensor
from lowwatt.types import Array
from lowwatt.verbs.compile import DEFAULT_TARGET

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.targets import Target

ISLAND_TOLERANCE = 0.01
"""Share of output elements that may differ where the graph holds float islands: a step there spreads behind it."""

Inputs = Mapping[str, Array]
SAMPLES = 2
"""Random inputs on which an export is proved; the numerics are exact, so that one element off would show."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: a graph, the machine that it is meant for, and the program where the file holds one."""

    graph: Graph
    machine: str | Target
    program: Program | None = None


def export_file(file: Path, out: Path, format: str, machine: str = "") -> dict[str, Any]:
    """Write `file` in `format` to `out`; {format, file, bytes, proof: lines}. ToolError where the proof fails.

    `machine` is whose arch.json is written beside an xmodel, and whom a graph is compiled for; by default the program's
    own, else a recipe's default.
    """
    from lowwatt.compiler import Program
    from lowwatt.loading import load_graph

    if format not in FORMATS:
        raise ToolError(f"unknown format {format}", hint=did_you_mean(format, FORMATS))
    if file.suffix != ".lwp" or (machine and format == "xmodel-compiled"):
        return export_graph(load_graph(file), out, format, machine=machine or DEFAULT_TARGET)
    program = Program.load(file)
    return _export(Source(program.graph, machine or program.target, program), out, format, None)


def export_graph(
    graph: Graph, out: Path, format: str, samples: Sequence[Inputs] | None = None, machine: str = DEFAULT_TARGET
) -> dict[str, Any]:
    """As `export_file`, from a graph in memory; `samples` are inputs by name (NHWC float32), random ones where None."""
    return _export(Source(graph, machine), out, format, samples)


def _export(source: Source, out: Path, format: str, samples: Sequence[Inputs] | None) -> dict[str, Any]:
    inputs = samples if samples is not None else random_inputs(source.graph)
    proof = FORMATS[format][1](source, out, inputs)
    return {"format": format, "file": str(out), "bytes": out.stat().st_size, "proof": proof}


def random_inputs(graph: Graph) -> Sequence[Inputs]:
    """Seeded inputs over the whole range of each input: its integers where it is quantized, else 0…255."""
    generator = np.random.default_rng(0)
    return [{name: _noise(graph.tensor(name), generator) for name in graph.inputs} for _ in range(SAMPLES)]


def _noise(tensor: Tensor, generator: np.random.Generator) -> Array:
    low, high = (0, 255) if tensor.quant is None else (tensor.quant.qmin, tensor.quant.qmax)
    values = generator.integers(low, high, tensor.shape, endpoint=True).astype(np.float32)
    return values if tensor.quant is None else tensor.quant.dequantize(values)


def _xmodel(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import xmodel
    from lowwatt.targets import arch_json, load_target

    graph, machine = source.graph, source.machine
    _need_quantized(graph, "xmodel")
    target = machine if not isinstance(machine, str) else load_target(machine)
    xmodel.write(graph, out)
    arch = out.with_suffix(".arch.json")
    write_text(arch, arch_json.text(target.fingerprint) + "\n")
    command = ["vai_c_xir", "-x", str(out), "-a", str(arch), "-o", str(out.parent), "-n", f"{out.stem}_{target.name}"]
    return [_read_back(graph, xmodel.read(out), samples), f"compile it for {target.name} with: {shlex.join(command)}"]


def _read_back(graph: Graph, again: Graph, samples: Sequence[Inputs]) -> str:
    """Run the file that was written and the graph on the integer reference; ToolError where an integer differs."""
    from lowwatt.ir.interpreter import run

    elements = 0
    for sample in samples:
        before, after = run(graph, sample), run(again, _renamed(graph, again, sample))
        for (name, left), right in zip(before.items(), after.values(), strict=True):
            elements += left.size
            if not np.array_equal(left, right):
                raise ToolError("the xmodel differs from the graph", where=name, hint="please report this graph")
    return f"read back and run on the integer reference: {elements} output elements, 0 differ"


def _renamed(graph: Graph, again: Graph, sample: Inputs) -> Inputs:
    """A sample by the names that the inputs have in the file."""
    return {new: sample[old] for old, new in zip(graph.inputs, again.inputs, strict=True)}


def _xmodel_compiled(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.compiler import compile, xmodel_compiled
    from lowwatt.ir import xmodel
    from lowwatt.verbs.compiled_proof import prove_code

    graph = source.graph
    _need_quantized(graph, "xmodel-compiled")
    program = source.program or compile(graph, source.machine)
    if all(segment.side == "host" for segment in program.segments):
        raise ToolError(
            "the program leaves nothing to the accelerator", where=graph.name, hint="lowwatt check says why"
        )
    xmodel_compiled.write(program, out)
    again = xmodel.read(out)
    return [
        "EXPERIMENTAL: no board has run such a file of lowwatt; the vendor's own way is --format xmodel and vai_c_xir",
        _read_back(graph, again, samples),
        *prove_code(out, program, again, _renamed(graph, again, samples[0])),
    ]


def _qdq(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import onnx_qdq
    from lowwatt.ir.interpreter import on_integers

    graph = source.graph
    _need_quantized(graph, "qdq")
    onnx_qdq.write(graph, out)
    report = onnx_qdq.validate_qdq(out, graph, samples)
    islands = [node.name for node in graph.nodes if not on_integers(graph, node)]
    off = report.differ_disabled / max(1, report.elements)
    if off > (ISLAND_TOLERANCE if islands else 0):
        raise ToolError(
            "onnxruntime differs from the integer reference",
            where=str(out),
            why=f"{report.differ_disabled} of {report.elements} output elements, graph optimisation off",
            hint="please report this graph",
        )
    share = report.differ_enabled / max(1, report.elements)
    allowed = f" (float32 of {len(islands)} float operators tips values beside a boundary)" if islands else ""
    return [
        f"onnxruntime, graph optimisation off, against the integer reference: {report.elements} elements, "
        f"{report.differ_disabled} differ{allowed}",
        f"optimisation on: {share:.2%} differ, by at most {report.max_abs_enabled} steps (its fusions round elsewhere)",
    ]


def _onnx(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    from lowwatt.ir import onnx_writer

    graph = source.graph
    if graph.is_quantized:
        raise ToolError("the graph is quantized", where=graph.name, hint="--format qdq writes it with its integers")
    onnx_writer.write(graph, out)
    return ["float ONNX, checked by onnx.checker"]


def _need_quantized(graph: Graph, format: str) -> None:
    if not graph.is_quantized:
        raise ToolError(f"{format} needs a quantized graph", where=graph.name, hint="run `lowwatt quantize` first")


FORMATS: dict[str, tuple[str, Callable[[Source, Path, Sequence[Inputs]], list[str]]]] = {
    "xmodel": ("_int.xmodel", _xmodel),
    "xmodel-compiled": (".xmodel", _xmodel_compiled),
    "qdq": ("_qdq.onnx", _qdq),
    "onnx": (".onnx", _onnx),
}
"""Format → suffix of the file, and the function that writes and proves it."""
