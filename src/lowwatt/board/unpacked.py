"""The files of an unpacked bundle, and the backends that its program is opened on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from lowwatt.backends import Backend, open_backend, status_of
from lowwatt.backends.kernels import find_core
from lowwatt.compiler.program import Program
from lowwatt.errors import ToolError

ON_THE_DPU = ("vart", "pynq")


def find_program(path: Path | None) -> Path:
    """The program's file: the given one, else the one .lwp of the working folder."""
    found = path or _only(Path(), ".lwp")
    if found is None:
        hint = "go to the folder that the bundle was unpacked to, or name it: --program FILE.lwp"
        raise ToolError("there is no program here", where=str(Path().resolve()), hint=hint)
    return found


def open_backends(given: Namespace, program: Program, path: Path) -> list[Backend]:
    """As many backends as there are to be `runners`, of the name, xmodel and overlay that the command line gave."""
    name, options = given.backend, dict[str, Any]()
    status_of(name).require()
    if name in ON_THE_DPU:
        options["xmodel"] = given.xmodel or _only(path.parent, ".xmodel")
        options["host"] = "reference" if find_core() is None else "core"
        if options["xmodel"] is None:
            hint = "compile the graph with vai_c_xir, and name the file: --xmodel FILE"
            raise ToolError("there is no .xmodel beside the program", where=str(path.parent), hint=hint)
    if given.overlay and name == "pynq":
        options["overlay"] = given.overlay
    return [open_backend(name, program, **options) for _ in range(max(1, given.runners))]


def _only(folder: Path, suffix: str) -> Path | None:
    """The one file of that suffix; None where there is none, ToolError where there are several."""
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ToolError(f"there are several {suffix} files here", where=str(folder.resolve()), why=names)
    return found[0] if found else None
