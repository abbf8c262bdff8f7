"""compile and check: what a machine makes of a network, from a file or, before any training, from a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def compile_file(file: Path, target: str | None, overrides: Sequence[str] = (), schedule: str | None = None) -> Program:
    """Program of a graph, model, ONNX, xmodel or recipe; without target or schedule the recipe's, else the default."""
    from lowwatt.compiler import compile as compile_graph

    graph, settings = open_network(file, overrides)
    return compile_graph(graph, target or settings.target, schedule or settings.schedule)


def write_files(program: Program, out: Path | None, trace: Path | None) -> list[str]:
    """Write the program and its trace where they are wanted; a line for each."""
    from lowwatt.compiler.trace import save_trace

    if out is not None:
        program.save(out)
    if trace is not None:
        save_trace(program, trace)
    return [f"{name}: {path}" for name, path in (("program", out), ("trace", trace)) if path is not None]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a network stands with a machine: operators in all and on the host, parts, tensors that cross between them."""

    operators: int
    on_host: int
    parts: int
    crossings: int


def check_file(
    file: Path, target: str | None, overrides: Sequence[str] = (), least_macs: int = 0
) -> tuple[list[Verdict], Standing]:
    """Verdict on every operator, and how the network stands; parts of fewer than `least_macs` go to the host."""
    from lowwatt.compiler.partition import demote
    from lowwatt.compiler.rules import check
    from lowwatt.targets import load_target

    graph, settings = open_network(file, overrides)
    verdicts = demote(graph, check(graph, load_target(target or settings.target)), least_macs)
    return verdicts, standing(graph, verdicts)


def standing(graph: Graph, verdicts: Sequence[Verdict]) -> Standing:
    """Counts of what the verdicts mean."""
    from lowwatt.compiler.crossings import crossings
    from lowwatt.compiler.partition import partition

    where: dict[str, str] = {verdict.node: verdict.where for verdict in verdicts}
    on_host = sum(side == "host" for side in where.values())
    return Standing(len(where), on_host, len(partition(graph, verdicts)), len(crossings(graph, where)))


def open_network(file: Path, overrides: Sequence[str] = ()) -> tuple[Graph, Recipe]:
    """Graph, and the recipe that names target and schedule (the default one where the file is no recipe).

    A recipe gives its untrained network, since time depends on shapes alone. A float graph has been through
    `FLOAT_PASSES`, as it will have been when it is quantized.
    """
    from lowwatt.ir.passes import FLOAT_PASSES, run_passes
    from lowwatt.loading import load_graph

    if file.suffix in (".yaml", ".yml"):
        recipe = load_recipe(file, overrides)
        return untrained_graph(recipe, _classes(recipe)), recipe
    if overrides:
        raise ToolError("only a recipe takes settings", where=overrides[0], why=f"{file} is no recipe")
    graph = load_graph(file)
    if not graph.has_integers:
        run_passes(graph, FLOAT_PASSES)
    return graph, Recipe()


def untrained_graph(recipe: Recipe, num_classes: int) -> Graph:
    """The recipe's network with random weights."""
    from lowwatt.loading import graph_of
    from lowwatt.models.checkpoint import Model
    from lowwatt.models.networks import build_network, head_of, preprocess_of

    labels = tuple(f"class {k}" for k in range(num_classes))
    module = build_network(recipe, num_classes)
    head, preprocess = head_of(recipe, num_classes), preprocess_of(recipe)
    return graph_of(Model(module, recipe, labels, tuple(range(1, num_classes + 1)), head, preprocess))


def _classes(recipe: Recipe) -> int:
    """Classes of the recipe's data set, COCO's 80 where it is not here."""
    from lowwatt.data.splits import open_splits

    if recipe.data.classes:
        return len(recipe.data.classes)
    try:
        return len(open_splits(recipe, ("train",))[0].labels)
    except ToolError:
        return COCO_CLASSES
