"""A wheel of the modules that a board needs, made without a build tool, so that pip installs it without the net."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from lowwatt import __version__
from lowwatt.files import zipped

VERSION = f"{__version__}+board"
WHEEL = f"lowwatt-{VERSION}-py3-none-any.whl"

_INFO = f"lowwatt-{VERSION}.dist-info"
# NumPy and OpenCV are not asked for: boards bring their own, under several names. The command itself looks for them.
_METADATA = f"""\
Metadata-Version: 2.1
Name: lowwatt
Version: {VERSION}
Summary: The part of lowwatt that runs a compiled detector on a board; needs NumPy and OpenCV (cv2).
License: Apache-2.0
Requires-Python: >=3.10
"""
_TAGS = "Wheel-Version: 1.0\nGenerator: lowwatt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_COMMAND = "[console_scripts]\nlowwatt-board = lowwatt.board.cli:main\n"


def make_wheel(modules: Mapping[str, Path], license: bytes) -> bytes:
    """Bytes of a wheel of the modules, by name with their files; the same files give the same bytes.

    Source: the binary distribution format, packaging.python.org/en/latest/specifications/binary-distribution-format.
    """
    members = {_place(name, path): path.read_bytes() for name, path in modules.items()}
    members |= {
        f"{_INFO}/METADATA": _METADATA.encode(),
        f"{_INFO}/WHEEL": _TAGS.encode(),
        f"{_INFO}/entry_points.txt": _COMMAND.encode(),
        f"{_INFO}/LICENSE": license,
    }
    rows = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in sorted(members.items())]
    record = f"{_INFO}/RECORD"
    return zipped({**members, record: "".join([*rows, f"{record},,\n"]).encode()})


def _place(module: str, path: Path) -> str:
    """A module's file within the wheel."""
    folder = module.replace(".", "/")
    return f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()
