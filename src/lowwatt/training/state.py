"""What must survive an interruption: last.ckpt, written whole after every epoch and now and then within one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lowwatt.errors import ToolError
from lowwatt.files import atomic_path

FORMAT = 2


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise ToolError("cannot write the run's state", where=str(path), why=str(error).splitlines()[0]) from None


def load_state(path: Path, identity: dict[str, Any], world: int) -> dict[str, Any]:
    """Read a run's state to the CPU; ToolError where there is none, where it is damaged or of another run's kind."""
    if not path.is_file():
        raise ToolError("there is no run to resume", where=str(path), hint="start it without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors on damaged input
        raise ToolError("cannot resume", where=str(path), why=str(error).splitlines()[0]) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ToolError("cannot resume", where=str(path), why="the state is of another version of lowwatt")
    if state["identity"] != identity:
        hint = "start a new run in another folder, with model.init set to the old model.safetensors"
        raise ToolError("cannot resume: the recipe's model or classes changed", where=str(path), hint=hint)
    if state["world"] != world:
        why = f"it ran in {state['world']} processes, here are {world}"
        raise ToolError("cannot resume", where=str(path), why=why, hint="start as many as before with torchrun")
    return state


def random_state() -> dict[str, torch.Tensor]:
    """Where torch's generators stand."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Put them there."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
