"""What every backend is: something that takes arrays by input name and gives arrays by output name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.types import Array, QuantParams


class Backend(Protocol):
    """An opened network. All backends answer alike, so that one can stand in for another.

    `inputs` and `outputs` are names, in the network's order. `quants` gives the quantization of each of them (None
    for float values). `run` takes real values (float, quantized here by the interpreter's rule) or raw integers, maps
    in NHWC; it gives raw integers where the output is quantized, else float32. More images than the network was made
    for (first dimension) run one after the other.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    quants: dict[str, QuantParams | None]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. ToolError for a missing or unknown input, or one of a wrong shape or type."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A step of a backend's work on one image; `run` takes what is known so far, and gives it with its own outputs."""

    name: str
    run: Callable[[Mapping[str, Array]], dict[str, Array]]


def parts_of(backend: Backend) -> Sequence[Part]:
    """Steps that may work at the same time, each on another image: a backend's `parts`, or one for most."""
    parts: Sequence[Part] = getattr(backend, "parts", ()) or (Part("infer", backend.run),)
    return parts


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can be used here; where not, why, and how to get it."""

    name: str
    usable: bool
    why: str
    how_to_install: str = ""

    def require(self) -> None:
        """ToolError where it cannot be used, with how to get it."""
        if not self.usable:
            raise ToolError(f"the {self.name} backend is not usable here", why=self.why, hint=self.how_to_install)


def module_status(name: str, module: str, how: str) -> BackendStatus:
    """Of a backend that needs a module: whether it is installed and loads, and its version."""
    if importlib.util.find_spec(module) is None:
        return BackendStatus(name, False, f"the module {module} is not installed", how)
    try:
        version = getattr(importlib.import_module(module), "__version__", "")
    except ImportError as error:
        return BackendStatus(name, False, f"{module} does not load: {error}", how)
    return BackendStatus(name, True, f"{module} {version}".strip())


def graph_of(source: Any, backend: str) -> Graph:
    """The Graph itself, or that of a Program; ToolError for anything else."""
    graph = source if isinstance(source, Graph) else getattr(source, "graph", None)
    if not isinstance(graph, Graph):
        raise ToolError(
            f"the {backend} backend cannot run this",
            why=f"it was given {type(source).__name__}; it takes a graph or a program",
            hint="load the file with lowwatt.load first",
        )
    return graph


def quantized_graph_of(source: Any, backend: str) -> Graph:
    """As `graph_of`; ToolError where the graph is a float one."""
    graph = graph_of(source, backend)
    if not graph.has_integers:
        raise ToolError(
            f"the {backend} backend runs integers",
            where=graph.name,
            why="no tensor of the graph is quantized",
            hint="quantize the graph first, or use the onnxruntime backend",
        )
    return graph


def quants_of(graph: Graph) -> dict[str, QuantParams | None]:
    """Quantization of the graph's inputs and outputs, by name."""
    return {name: graph.tensor(name).quant for name in (*graph.inputs, *graph.outputs)}
