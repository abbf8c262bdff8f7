"""What must survive an interruption: last.ckpt, written whole after every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lowwatt.errors import ToolError
from lowwatt.files import atomic_path

FORMAT = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise ToolError("cannot write the run's state", where=str(path), why=str(error).splitlines()[0]) from None


def load_state(path: Path) -> dict[str, Any]:
    """Read a run's state to the CPU; ToolError where there is none or it is damaged."""
    if not path.is_file():
        raise ToolError("there is no run to resume", where=str(path), hint="start it without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors on damaged input
        raise ToolError("cannot resume", where=str(path), why=str(error).splitlines()[0]) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ToolError("cannot resume", where=str(path), why="the state is of another version of lowwatt")
    return state
