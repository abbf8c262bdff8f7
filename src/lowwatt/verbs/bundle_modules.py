"""Which modules a board needs: found by walking imports, and left out where a package is needed that a board lacks."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "lowwatt"
ON_A_BOARD = frozenset({"numpy", "cv2", *sys.stdlib_module_names})
"""What a module may import at its top; what it imports within a function, it may also do without."""


@dataclass(frozen=True, slots=True)
class Imports:
    """Modules that a file names: at its top, which must be there to load it, and within functions."""

    top: frozenset[str]
    within: frozenset[str]


def board_modules(entries: Iterable[str], root: Path, without: Collection[str] = ()) -> dict[str, Path]:
    """Modules of ours that `entries` reach, with their files, by name; `root` is the folder of the package.

    A module is left out where its top, or that of a module that it needs, imports a package that no board has, and
    where `without` names it or its package: whoever imports it within a function must do without it on a board.
    ValueError where an entry itself cannot run there.

    >>> found = board_modules(["lowwatt.runtime.engine"], Path(__file__).parents[1])
    >>> "lowwatt.runtime.pipeline" in found, "lowwatt.capture" in found
    (True, False)
    """
    walk = _Walk(root, without)
    left, found = list(entries), dict[str, Path]()
    if foreign := [name for name in left if not walk.runs(name)]:
        raise ValueError(f"{foreign[0]} cannot run on a board")
    while left:
        name = left.pop()
        if name not in found and walk.runs(name):
            found[name] = walk.files[name]
            imports = walk.imports(name)
            left += walk.ours(imports.top | imports.within)
    return dict(sorted(found.items()))


class _Walk:
    """The package's files, and what they import."""

    def __init__(self, root: Path, without: Collection[str]) -> None:
        self.files = {_name(path, root): path for path in sorted(root.rglob("*.py"))}
        self._without = without
        self._runs: dict[str, bool] = {}

    def runs(self, name: str) -> bool:
        """Whether a module loads on a board: all that it needs at its top, and the packages that it lies in, do."""
        if name not in self._runs:
            self._runs[name] = True  # for modules that import one another
            top = self.imports(name).top
            foreign = any(_first(other) not in ON_A_BOARD | {PACKAGE} for other in top)
            needed = self.ours(top | {name}) - {name}
            self._runs[name] = name not in self._without and not foreign and all(self.runs(other) for other in needed)
        return self._runs[name]

    def ours(self, names: Iterable[str]) -> set[str]:
        """Modules of ours among names that imports have (module.attribute too), with the packages that they lie in."""
        words = [name.split(".") for name in names]
        prefixes = {".".join(some[:count]) for some in words for count in range(1, len(some) + 1)}
        return prefixes & self.files.keys()

    def imports(self, name: str) -> Imports:
        """What the file of a module imports."""
        return _imports(self.files[name])


@cache
def _imports(path: Path) -> Imports:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = frozenset(_named(_top(tree.body)))
    return Imports(top, frozenset(_named(ast.walk(tree))) - top)


def _top(body: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when a file is imported; what is imported for type checkers alone is no need."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
            yield from _top(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def _named(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _first(name: str) -> str:
    return name.partition(".")[0]


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
