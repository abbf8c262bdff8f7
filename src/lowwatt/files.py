"""Writing files so that nothing is ever half-written, and archives whose bytes depend on content alone."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lowwatt.errors import ToolError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_MEMBER = 1 << 31


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on an error removed.

    The suffix is kept, so that writers which look at it (OpenCV, for one) work.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_bytes(path, text.encode())


def write_archive(path: str | Path, members: Mapping[str, bytes]) -> None:
    """Write a zip whose bytes depend only on the members: sorted names, no dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    write_bytes(path, buffer.getvalue())


def read_archive(path: str | Path) -> dict[str, bytes]:
    """Read every member of an archive written by `write_archive`; raises ToolError on anything else."""
    source = Path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_MEMBER:
                raise ToolError("cannot read the archive", where=str(source), why="it unpacks to more than 2 GiB")
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except ToolError:
        raise
    except FileNotFoundError:
        raise ToolError("no such file", where=str(source)) from None
    except Exception as error:  # zipfile raises a dozen kinds on damaged input, none of them the user's business
        raise ToolError(
            "cannot read the archive",
            where=str(source),
            why=str(error) or type(error).__name__,
            hint="the file is damaged or of another kind; make it again with the command that wrote it",
        ) from None
