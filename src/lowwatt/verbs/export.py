"""export: write what a target's tools read, and prove on the spot that it is the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.verbs.compile import DEFAULT_TARGET
from lowwatt.verbs.export_deploy import deploy
from lowwatt.verbs.export_ncnn import ncnn
from lowwatt.verbs.export_onnx import onnx, qdq, qdq_fast
from lowwatt.verbs.export_source import Inputs, Source, random_inputs
from lowwatt.verbs.export_tflite import tflite
from lowwatt.verbs.export_xmodel import xmodel, xmodel_compiled

DEFAULT_FORMAT = "xmodel"
"""Of a graph whose scheme is not known."""

FORMATS: dict[str, tuple[str, Callable[[Source, Path, Sequence[Inputs]], list[str]]]] = {
    "xmodel": ("_int.xmodel", xmodel),
    "xmodel-compiled": (".xmodel", xmodel_compiled),
    "qdq": ("_qdq.onnx", qdq),
    "qdq-fast": ("_fast.onnx", qdq_fast),
    "deploy": ("_qmodel.onnx", deploy),
    "ncnn": (".param", ncnn),
    "tflite": (".tflite", tflite),
    "onnx": (".onnx", onnx),
}
"""Format → suffix of the file, and the function that writes and proves it."""

OF_ANY_SCHEME = ("onnx", "tflite")
"""Formats that say what they cannot hold: they are no target's own."""


def export_file(file: Path, out: Path | None, format: str = "", machine: str = "") -> dict[str, Any]:
    """Write `file` in `format` to `out`; {format, file, bytes, proof: lines}. ToolError where the proof fails.

    `format` "" is the first of the graph's scheme; `out` None stands beside the file, by the format's suffix. `machine`
    is whose arch.json is written beside an xmodel, and whom a graph is compiled for; by default the program's own, else
    a recipe's default.
    """
    from lowwatt.compiler import Program
    from lowwatt.loading import load_graph

    if format and format not in FORMATS:
        raise ToolError(f"unknown format {format}", hint=did_you_mean(format, FORMATS))
    if file.suffix != ".lwp" or (machine and format == "xmodel-compiled"):
        source = Source(load_graph(file), machine or DEFAULT_TARGET)
    else:
        program = Program.load(file)
        source = Source(program.graph, machine or program.target, program)
    format = format or default_format(source.graph)
    return _export(source, out or file.with_name(f"{file.stem}{FORMATS[format][0]}"), format, None)


def export_graph(
    graph: Graph, out: Path, format: str, samples: Sequence[Inputs] | None = None, machine: str = DEFAULT_TARGET
) -> dict[str, Any]:
    """As `export_file`, from a graph in memory; `samples` are inputs by name (NHWC float32), random ones where None."""
    return _export(Source(graph, machine), out, format, samples)


def _export(source: Source, out: Path, format: str, samples: Sequence[Inputs] | None) -> dict[str, Any]:
    check_format(source.graph, format)
    inputs = samples if samples is not None else random_inputs(source.graph)
    proof = FORMATS[format][1](source, out, inputs)
    return {"format": format, "file": str(out), "bytes": out.stat().st_size, "proof": proof}


def default_format(graph: Graph) -> str:
    """The usual format of the scheme that a graph was quantized for."""
    tag = meta.scheme(graph)
    return tag.exports[0] if tag is not None and tag.exports else DEFAULT_FORMAT


def check_format(graph: Graph, format: str) -> None:
    """ToolError where the tools of the graph's scheme do not read the format, naming the schemes whose tools do."""
    tag = meta.scheme(graph)
    if tag is None or format in (*tag.exports, *OF_ANY_SCHEME):
        return
    from lowwatt.quant.scheme import load_scheme, scheme_names

    fitting = [name for name in scheme_names() if format in load_scheme(name).exports]
    raise ToolError(
        f"{format} needs scheme {' or '.join(fitting)}",
        where=graph.name,
        why=f"the graph was quantized for {tag.name}",
        hint=f"{tag.name} exports {', '.join(tag.exports)}",
    )
