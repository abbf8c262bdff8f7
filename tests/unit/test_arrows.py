"""Imports go one way, and what a board must run never imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ORDER = [
    "errors",
    "types",
    "files",
    "process",
    "records",
    "letterbox",
    "ir",
    "targets",
    "meters",
    "quant",
    "compiler",
    "sim",
    "backends",
    "loading",
    "runtime",
]
ORDER += ["evaluate", "board", "verbs", "cli"]
TORCH_FREE = ["ir", "targets", "meters", "compiler", "sim", "backends", "runtime", "evaluate", "board"]
MAY_USE_TRAINING = {"verbs", "cli", "loading", "models", "data", "training", "quant", "capture"}
PAIRS = {("quant", "compiler")}
"""Neighbours of one rank: quant and compiler do not know each other."""


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports when it runs; what is imported for type checkers alone makes no dependency."""
    tree = ast.parse(path.read_text())
    for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    words = module.split(".")
    return words[1] if len(words) > 1 else ""


def files(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).parts[0].removesuffix(".py"), path


def test_imports_go_one_way(repository: Path) -> None:
    wrong = []
    for name, path in files(repository / "src/lowwatt"):
        for module in imports(path):
            other = part(module) if module.startswith("lowwatt.") else ""
            if name in ORDER and other in ORDER:
                backwards = ORDER.index(other) > ORDER.index(name) or (other, name) in PAIRS
                if backwards:
                    wrong.append(f"{path.name}: {name} imports {other}")
    assert wrong == []


def test_training_is_used_only_above_the_road(repository: Path) -> None:
    wrong = [
        f"{name} imports {module}"
        for name, path in files(repository / "src/lowwatt")
        for module in imports(path)
        if part(module) in ("models", "data", "training")
        and module.startswith("lowwatt.")
        and name not in MAY_USE_TRAINING
    ]
    assert wrong == []


def test_what_runs_on_a_board_is_free_of_torch(repository: Path) -> None:
    wrong = [
        f"{path.name} imports {module}"
        for name, path in files(repository / "src/lowwatt")
        for module in imports(path)
        if name in TORCH_FREE and module.split(".")[0] == "torch"
    ]
    assert wrong == []


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ("torch", "cv2", "onnx", "onnxruntime", "sklearn", "hotcoco")
    code = f"import sys, lowwatt.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
