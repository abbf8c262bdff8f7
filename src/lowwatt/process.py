"""What both command lines share: how a process that prints begins, and how it ends after Ctrl-C."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


def begin() -> None:
    """Make stdout and stderr take any text, and keep OpenCV quiet."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files need not be text, nor terminals know every sign
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # what is wrong with an image is told by ToolError
