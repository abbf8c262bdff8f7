"""Writing files so that nothing is ever half-written, and archives whose bytes depend on content alone."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lowwatt.errors import ToolError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_MEMBER = 1 << 31
_TEMPORARY = ".half-written-"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on an error removed.

    The suffix is kept, so that writers which look at it work. Raises ToolError where the file cannot be written: no
    right to, no space, a folder in its place.
    """
    target = Path(path)
    with _writing(target):
        temporary = _temporary_beside(target)
    try:
        with _writing(target):
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ToolError("cannot write the file", where=str(target), why=error.strerror or str(error)) from None


def _temporary_beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_TEMPORARY}{target.stem[:32]}-", suffix=target.suffix)
    os.close(handle)
    return Path(name)


def sweep(folder: str | Path) -> None:
    """Remove what killed processes left half-written in a folder that no other process writes to."""
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Make `folder` and hold it: a second process that asks for the same one gets a ToolError.

    The hold is on the folder itself and ends with the process, however it ends; no lock file stays behind.
    """
    import fcntl

    with _writing(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it, or name another folder with --out"
            raise ToolError("another run works in this folder", where=str(folder), hint=hint) from None
        yield
    finally:
        os.close(handle)


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
    write_bytes(path, zipped(members))


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Bytes of the zip that `write_archive` writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """Bytes of a .tar.gz that depend only on the members: sorted names, no dates, nobody's files."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            archive.addfile(info, io.BytesIO(members[name]))
    return buffer.getvalue()


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
