"""The compiled core: the same integers as the reference, many times faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lowwatt.backends.base import BackendStatus, module_status, quantized_graph_of, quants_of
from lowwatt.backends.kernels import build_kernel, load_core
from lowwatt.backends.site import Kernel
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph, Node
from lowwatt.types import Array


class CoreBackend:
    """Runs a quantized Graph (or a Program's); weights are packed once, here.

    A node that the core has no kernel for runs through its integer rule; `fallbacks` names these nodes.
    `isa` chooses the convolution kernel (`lowwatt._core.kernels()`); "auto" takes the best.
    """

    name = "core"
    _load: Callable[[], Any] = staticmethod(load_core)

    def __init__(self, source: Any, isa: str = "auto") -> None:
        self.graph = quantized_graph_of(source, self.name)
        self.inputs, self.outputs = tuple(self.graph.inputs), tuple(self.graph.outputs)
        self.quants = quants_of(self.graph)
        interpreter.check_executable(self.graph)
        core = self._load()
        self._steps = [(node, build_kernel(core, self.graph, node, isa)) for node in self.graph.nodes]
        self._last_use = _last_use(self.graph)
        self.fallbacks = tuple(node.name for node, kernel in self._steps if kernel is None)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers."""
        return interpreter.in_batches(self.graph, inputs, self._run_batch)

    def _run_batch(self, values: dict[str, Array]) -> dict[str, Array]:
        values = dict(values)
        for node, kernel in self._steps:
            values[node.name] = self._run_node(node, kernel, values)
            for name in self._last_use[node.name]:
                values.pop(name, None)
        return interpreter.outputs_of(self.graph, values)

    def _run_node(self, node: Node, kernel: Kernel | None, values: Mapping[str, Array]) -> Array:
        if kernel is None:
            return interpreter.evaluate(self.graph, node, values)
        return kernel([values[name] for name in node.inputs if name in values])

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether the core was compiled."""
        how = "with a C++17 compiler: pip install . (in a bundle for a board: ./core)"
        return module_status(cls.name, "lowwatt._core", how)


def _last_use(graph: Graph) -> dict[str, list[str]]:
    """For each node, the tensors that nobody reads after it."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        last.update(dict.fromkeys([node.name, *node.inputs], node.name))
    kept = set(graph.outputs)
    gone: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for name, node_name in last.items():
        if name not in kept:
            gone[node_name].append(name)
    return gone
