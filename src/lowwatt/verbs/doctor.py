"""What this machine can do: versions, the compiled core, backends, meters, targets."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Any

from lowwatt import __version__


def examine() -> list[dict[str, Any]]:
    """Rows of {name, usable, needed, what, how}; `how` says how to install what is missing."""
    return [_python(), _core(), _torch(), *_backends(), *_meters(), *_targets()]


def _row(name: str, usable: bool, what: str, how: str = "", needed: bool = False) -> dict[str, Any]:
    return {"name": name, "usable": usable, "needed": needed, "what": what, "how": "" if usable else how}


def _python() -> dict[str, Any]:
    what = f"lowwatt {__version__}, Python {platform.python_version()}, {platform.machine()} {platform.system()}"
    return _row("python", True, what, needed=True)


def _core() -> dict[str, Any]:
    try:
        from lowwatt import _core as core
    except ImportError as error:
        return _row("compiled core", False, str(error), "pip install . with a C++17 compiler", needed=True)
    return _row("compiled core", True, f"instruction set in use: {core.isa()}", needed=True)


def _torch() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return _row("torch", False, "train and quantize need it", "pip install -c constraints.txt 'lowwatt[train]'")
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    return _row("torch", True, f"{metadata.version('torch')}, {device}")


def _backends() -> list[dict[str, Any]]:
    from lowwatt.backends import available

    return [_row(f"backend {b.name}", b.usable, b.why, b.how_to_install) for b in available()]


def _meters() -> list[dict[str, Any]]:
    from lowwatt.meters import available_meters

    return [_row(f"meter {m.name}", m.usable, m.why, m.how_to_get) for m in available_meters()]


def _targets() -> list[dict[str, Any]]:
    from lowwatt.targets import load_target, target_names

    return [_row(f"target {name}", True, load_target(name).description) for name in target_names()]
