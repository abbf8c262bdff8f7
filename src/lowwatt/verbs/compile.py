"""compile and check: what a machine makes of a network, from a file or, before any training, from a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.compiler.rules import Verdict

DEFAULT_TARGET = Recipe().target
COCO_CLASSES = 80


def compile_file(file: Path, target: str | None, overrides: Sequence[str] = ()) -> Program:
    """Program of a graph, model, ONNX, xmodel or recipe; `target` None: the recipe's own, else the default."""
    from lowwatt.compiler import compile as compile_graph

    graph, own = open_network(file, overrides)
    return compile_graph(graph, target or own)


def check_file(file: Path, target: str | None, overrides: Sequence[str] = ()) -> list[Verdict]:
    """Verdict on every operator."""
    from lowwatt.compiler.rules import check
    from lowwatt.targets import load_target

    graph, own = open_network(file, overrides)
    return check(graph, load_target(target or own))


def open_network(file: Path, overrides: Sequence[str] = ()) -> tuple[Graph, str]:
    """Graph and target name; a recipe gives its untrained network, since time depends on shapes alone."""
    from lowwatt.loading import load_graph

    if file.suffix in (".yaml", ".yml"):
        recipe = load_recipe(file, overrides)
        return untrained_graph(recipe, _classes(recipe)), recipe.target
    if overrides:
        raise ToolError("only a recipe takes settings", where=overrides[0], why=f"{file} is no recipe")
    return load_graph(file), DEFAULT_TARGET


def untrained_graph(recipe: Recipe, num_classes: int) -> Graph:
    """The recipe's network with random weights."""
    from lowwatt.loading import graph_of
    from lowwatt.models.checkpoint import Model
    from lowwatt.models.yolox import build_model, head_of, preprocess_of

    labels = tuple(f"class {k}" for k in range(num_classes))
    module = build_model(recipe.model, num_classes)
    head, preprocess = head_of(recipe.model, num_classes), preprocess_of(recipe.model)
    return graph_of(Model(module, recipe, labels, tuple(range(1, num_classes + 1)), head, preprocess))


def _classes(recipe: Recipe) -> int:
    """Classes of the recipe's data set, COCO's 80 where it is not here."""
    from lowwatt.verbs.data import open_split

    if recipe.data.classes:
        return len(recipe.data.classes)
    try:
        return len(open_split(recipe.data, "train").labels)
    except ToolError:
        return COCO_CLASSES
