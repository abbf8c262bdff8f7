"""The archive of a program: its description, a digest over every member, and which forms of it can be read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.files import read_archive, write_archive
from lowwatt.ir import store
from lowwatt.ir.graph import Graph
from lowwatt.targets import target_names

FORMAT = 2
"""Version of the file form. A reader refuses newer ones, and takes from older ones the graph alone."""

DESCRIPTION, DIGEST = "program.json", "digest.txt"


def write_program(path: str | Path, description: Mapping[str, Any], graph: Graph, members: Mapping[str, bytes]) -> None:
    """Write a program's archive, atomically; equal content gives equal bytes."""
    text = json.dumps({**description, "format": FORMAT}, indent=1, sort_keys=True)
    stored = {f"graph/{name}": data for name, data in store.pack(graph).items()}
    write_archive(path, seal({DESCRIPTION: text.encode(), **stored, **members}))


def seal(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members with the digest over all of them."""
    return {**members, DIGEST: _digest(members).encode()}


def read_program(path: str | Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Description and members; ToolError for a file that is foreign, damaged, older or newer."""
    description, members = _read(path)
    if description["format"] < FORMAT:
        raise ToolError(
            "the program is of an older form",
            where=str(path),
            why=f"format {description['format']}, this version runs {FORMAT}",
            hint=f"its graph is still good: {recompile(path, description)}",
        )
    return description, members


def read_graph(path: str | Path) -> Graph:
    """The graph alone, of a program of this or an older form, for whatever machine; ToolError as `read_program`."""
    members = _read(path)[1]
    try:
        return unpack_graph(members)
    except Exception as error:  # an older form has no digest: whatever is wrong in it shows here
        raise _damaged(path, str(error)) from None


def unpack_graph(members: Mapping[str, bytes]) -> Graph:
    """The graph among a program's members."""
    return store.unpack(part(members, "graph/"), "graph")


def part(members: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    """Members whose names begin with `prefix`, without it."""
    return {name[len(prefix) :]: data for name, data in members.items() if name.startswith(prefix)}


def recompile(path: str | Path, description: Mapping[str, Any]) -> str:
    """The command that compiles a program's own graph again, for the machine of that name as it is here."""
    target, schedule = description.get("target"), description.get("schedule", "vendor")
    machine = target if target in target_names() else "MACHINE.yaml"
    words = ["lowwatt", "compile", path, "--target", machine, "--schedule", schedule, "--out", path]
    return shlex.join(str(word) for word in words)


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    members = read_archive(path)
    if DESCRIPTION not in members:
        raise ToolError("this is no program of ours", where=str(path), why=f"the archive holds no {DESCRIPTION}")
    try:
        description = json.loads(members[DESCRIPTION])
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{DESCRIPTION}: {error}") from None
    if not isinstance(description, dict) or type(description.get("format")) is not int:
        raise _damaged(path, "it does not say its format")
    if description["format"] > FORMAT:
        raise ToolError(
            "the program was written by a newer lowwatt",
            where=str(path),
            why=f"format {description['format']}, this version reads up to {FORMAT}",
            hint="update lowwatt, or compile again",
        )
    if description["format"] == FORMAT and members.get(DIGEST, b"") != _digest(members).encode():
        raise _damaged(path, "its content is not what its digest says")
    return description, members


def _digest(members: Mapping[str, bytes]) -> str:
    """SHA-256 over every member but the digest: for each, by name, both lengths, the name and the bytes."""
    found = sha256()
    for name in sorted(members.keys() - {DIGEST}):
        title, data = name.encode(), members[name]
        found.update(b"%d %d\n" % (len(title), len(data)) + title)
        found.update(data)
    return found.hexdigest() + "\n"


def _damaged(path: str | Path, why: str) -> ToolError:
    hint = "copy it again from where it was whole, or compile again"
    return ToolError("the program's file is damaged", where=str(path), why=why, hint=hint)
