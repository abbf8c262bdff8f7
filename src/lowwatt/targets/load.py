"""load_target: whatever names a machine, and the Target it stands for."""

from __future__ import annotations

from pathlib import Path

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.targets import arch_json, handoff
from lowwatt.targets.boards import board, read_yaml, target_names
from lowwatt.targets.found import Found, complete, named
from lowwatt.targets.names import PREFIX
from lowwatt.targets.target import Target

_KINDS = "a fingerprint (0x…), a core (DPUCZDX8G_…), a .hwh, an arch.json or a YAML file works too"


def load_target(name: str | Path) -> Target:
    """Machine of a board's name, a core's name or fingerprint, a .hwh, an arch.json, or a YAML file.

    CORE@BOARD puts a core on a known board; without it, what is not told is taken from the nearest known board.
    Raises ToolError for an unknown name (with the nearest known one), an unreadable file, and a core unknown to
    lowwatt.

    >>> load_target("ultra96v2-lpcv").array.name
    'B2304'
    >>> load_target("0x101000056010407@zcu104").name
    'DPUCZDX8G_ISA1_B4096@zcu104'
    """
    text = str(name)
    if text in target_names():
        return board(text)
    if Path(text).suffix.lower() in (".yaml", ".yml"):
        return read_yaml(Path(text))
    core, at, on = text.rpartition("@")
    if at and on in target_names():
        return complete(_found(core), board(on))
    return complete(_found(text))


def _found(text: str) -> Found:
    path = Path(text)
    if path.suffix.lower() == ".hwh":
        return handoff.read(path)
    if path.suffix.lower() == ".json":
        return arch_json.read(path)
    if text.startswith(PREFIX) or text[:2].lower() == "0x":
        return named(text, "as named")
    raise _unknown(text)


def _unknown(text: str) -> ToolError:
    if not target_names():
        return ToolError(f"unknown target {text}", why="names need PyYAML, which is not installed", hint=_KINDS)
    known = [other for other in target_names() if other.startswith(text)]
    near = f'did you mean "{known[0]}"?' if known else did_you_mean(text, target_names())
    return ToolError(f"unknown target {text}", hint=f"{near} (`lowwatt targets` lists all; {_KINDS})")
