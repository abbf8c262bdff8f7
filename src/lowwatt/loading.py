"""One door for every file: `load(path)` gives the Graph, Program or Model that the file holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph

if TYPE_CHECKING:
    from lowwatt.compiler.program import Program
    from lowwatt.models.checkpoint import Model

KINDS = {
    ".safetensors": "a trained model",
    ".lwg": "a graph",
    ".lwp": "a compiled program",
    ".xmodel": "an xmodel of either kind",
    ".onnx": "an ONNX model",
}


def load(path: str | Path) -> Graph | Program | Model:
    """Read a file by its suffix: .safetensors → Model, .lwg → Graph, .lwp → Program, .xmodel and .onnx → Graph.

    Raises ToolError for a missing file, an unknown suffix, and damaged or foreign content.
    """
    source = Path(path)
    if source.suffix not in KINDS:
        known = ", ".join(f"{suffix} ({what})" for suffix, what in KINDS.items())
        raise ToolError("unknown kind of file", where=str(source), hint=f"known: {known}")
    if not source.is_file():
        raise ToolError("no such file", where=str(source))
    try:
        loaded: Graph | Program | Model = _READERS[source.suffix](source)
    except ToolError:
        raise
    except Exception as error:  # what is damaged in a way that its reader did not foresee
        why = f"{type(error).__name__}: {error}"
        raise ToolError("cannot read the file", where=str(source), why=why, hint="it is damaged") from error
    return loaded


def load_graph(path: str | Path) -> Graph:
    """The graph in any of the files: a program's own, whatever its machine; a model's with its batch norms folded."""
    if Path(path).suffix == ".lwp":
        from lowwatt.compiler.program_file import read_graph

        return read_graph(path)
    loaded: Any = load(path)
    return loaded if isinstance(loaded, Graph) else graph_of(loaded)


def load_with_head(path: str | Path, labels: Sequence[str] = (), pixels: str = "") -> tuple[Graph, str]:
    """The graph with what `detect` and `eval` need, and one line that says what was worked out for that.

    A network that was trained elsewhere is recognised by its last operators and cut before them (`ir.heads`); the line
    is empty where the file itself states its head. ToolError where no head is found, with the reason.
    """
    from lowwatt.ir.heads import attach_head

    graph = load_graph(path)
    try:
        return graph, attach_head(graph, labels, pixels)
    except ToolError as error:
        raise ToolError(error.what, where=str(path), why=error.why, hint=error.hint) from None


def read_labels(path: str | Path) -> list[str]:
    """Class names from a text file, one a line; empty lines do not count."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ToolError("cannot read the class names", where=str(path), why=str(error)) from None
    return [line.strip() for line in lines if line.strip()]


def graph_of(model: Model) -> Graph:
    """Float graph of a trained model: captured, folded, with labels, head and pre-processing in its meta."""
    from lowwatt.capture import capture_model
    from lowwatt.ir.passes import FLOAT_PASSES, run_passes

    graph = capture_model(model)
    run_passes(graph, FLOAT_PASSES)
    return graph


def _model(path: Path) -> Any:
    from lowwatt.models import checkpoint

    return checkpoint.load(path)


def _graph(path: Path) -> Any:
    from lowwatt.ir import store

    return store.load(path)


def _program(path: Path) -> Any:
    from lowwatt.compiler.program import Program

    return Program.load(path)


def _xmodel(path: Path) -> Any:
    from lowwatt.ir import xmodel

    return xmodel.read(path)


def _onnx(path: Path) -> Any:
    from lowwatt.ir import onnx_reader

    return onnx_reader.read(path)


_READERS = {".safetensors": _model, ".lwg": _graph, ".lwp": _program, ".xmodel": _xmodel, ".onnx": _onnx}
