"""What shows that a bundle came whole and that the board computes what the program says."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from lowwatt.backends import Backend
from lowwatt.compiler.program import Program
from lowwatt.errors import ToolError

SUMS = "SHA256SUMS"


def sums_of(members: dict[str, bytes]) -> str:
    """Text of SHA256SUMS, as `sha256sum -c` reads it.

    >>> sums_of({"a": b""})[:12]
    'e3b0c44298fc'
    """
    return "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(members.items()))


def check_sums(folder: Path) -> Iterator[str]:
    """One line where the folder has sums and all files are theirs; ToolError for one that is another, or missing."""
    if not (folder / SUMS).is_file():
        return
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        found = sha256(path.read_bytes()).hexdigest() if name and path.is_file() else "no such file"
        if found != digest:
            hint = "unpack the bundle again; where it does not help, copy it again"
            raise ToolError("a file of the bundle is damaged", where=str(path), why=f"its sum: {found}", hint=hint)
    yield f"{len(lines)} files are whole ({SUMS})"


def check_golden(program: Program, backend: Backend) -> str:
    """A line that says the backend gives the program's golden output; ToolError where one integer differs."""
    golden = program.golden
    if golden is None:
        raise ToolError("the program carries no golden output", where=program.graph.name, why="it is a float one")
    found = backend.run(golden.inputs)
    elements = sum(array.size for array in golden.outputs.values())
    for name, array in golden.outputs.items():
        answer = found.get(name)
        whole = answer is not None and answer.shape == array.shape
        if differ := int(np.count_nonzero(answer != array)) if whole else array.size:
            why = f"{differ} of {array.size} elements, on {backend.name}"
            raise ToolError("the board gives other integers than the program says", where=name, why=why)
    return f"golden input on {backend.name}: {elements} output elements, 0 differ"
