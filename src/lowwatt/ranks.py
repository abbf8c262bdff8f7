"""Which of torchrun's processes this one is; known before torch is loaded."""

from __future__ import annotations

import os


def rank() -> int:
    """0 where torchrun did not start this process."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """Processes of the run; 1 where torchrun did not start this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))
