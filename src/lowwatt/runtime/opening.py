"""What an engine is opened from: a file, a graph or a program; backends by name; classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.backends import Backend, open_backend, parts_of
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.graph import Graph


def open_backends(backend: str | Backend | Sequence[str | Backend], source: Any) -> list[Backend]:
    """One backend or several, each a name or already open."""
    several: Sequence[Any] = backend if isinstance(backend, (list, tuple)) else [backend]
    if not several:
        raise ToolError("the engine has no backend", hint='name one: backend="core"')
    opened: list[Backend] = [open_backend(one, source) if isinstance(one, str) else one for one in several]
    if len({len(parts_of(one)) for one in opened}) > 1:
        raise ToolError("the backends cannot share the work", why="they cut the network into different parts")
    return opened


def load_network(source: Any) -> Any:
    """Graph or Program; a trained Model becomes its float graph."""
    if isinstance(source, (str, Path)):
        from lowwatt import loading

        loaded = loading.load(source)
        return loaded if isinstance(getattr(loaded, "graph", loaded), Graph) else loading.load_graph(source)
    if not isinstance(getattr(source, "graph", source), Graph):
        raise ToolError("the engine takes a graph, a program or a path", why=f"it was given {type(source).__name__}")
    return source


def with_head(graph: Graph) -> Graph:
    """A network from elsewhere, cut before its own decoding; the caller's graph stays whole."""
    from lowwatt.ir.heads import attach_head

    cut = graph.copy()
    attach_head(cut)
    return cut


def label_indices(classes: Sequence[str | int], labels: Sequence[str]) -> NDArray[np.int64]:
    """Labels by name or index; ToolError for a name that the detector does not know."""
    found = []
    for name in classes:
        if isinstance(name, int):
            found.append(name)
        elif name in labels:
            found.append(labels.index(name))
        else:
            raise ToolError(f"the detector knows no class {name}", hint=did_you_mean(name, labels))
    return np.array(found, np.int64)
