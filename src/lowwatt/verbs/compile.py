"""compile and check: what a machine makes of a network, from a file or, before any training, from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lowwatt.ir.graph import Graph
from lowwatt.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.rules import Verdict

DEFAULT_TARGET = Recipe().target


def compile_file(file: Path, target: str | None) -> Program:
    """Program of a graph, model, ONNX, xmodel or recipe; `target` None: the recipe's own, else the default."""
    from lowwatt.compiler import compile as compile_graph

    graph, own = open_network(file)
    return compile_graph(graph, target or own)


def check_file(file: Path, target: str | None) -> list[Verdict]:
    """Verdict on every operator."""
    from lowwatt.compiler.rules import check
    from lowwatt.targets import load_target

    graph, own = open_network(file)
    return check(graph, load_target(target or own))


def open_network(file: Path) -> tuple[Graph, str]:
    """Graph and target name; a recipe gives its untrained network, since time depends on shapes alone."""
    from lowwatt.loading import load_graph

    if file.suffix in (".yaml", ".yml"):
        recipe = load_recipe(file)
        return untrained_graph(recipe), recipe.target
    return load_graph(file), DEFAULT_TARGET


def untrained_graph(recipe: Recipe) -> Graph:
    """The recipe's network with random weights and as many classes as its data set has (80 where that is not here)."""
    from lowwatt.loading import graph_of
    from lowwatt.models import untrained

    return graph_of(untrained(recipe))
