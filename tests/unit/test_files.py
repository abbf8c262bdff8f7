"""Atomic writing and archives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.errors import ToolError
from lowwatt.files import atomic_path, read_archive, write_archive, write_bytes


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_archive_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", {"x": b"1", "y": b"2"})
    write_archive(tmp_path / "b", {"y": b"2", "x": b"1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_archive(tmp_path / "a") == {"x": b"1", "y": b"2"}


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_damaged_archive_is_refused_or_read_whole(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    members = {"graph.txt": b"node " * 50, "w.npy": bytes(range(256))}
    write_archive(folder / "a", members)
    content = bytearray((folder / "a").read_bytes())
    content[place % len(content)] = value
    (folder / "a").write_bytes(content)
    try:
        read = read_archive(folder / "a")
    except ToolError:
        return
    assert all(members[name] == data for name, data in read.items() if name in members)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all"])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ToolError, match="cannot read the archive"):
        read_archive(tmp_path / "a")
    with pytest.raises(ToolError, match="no such file"):
        read_archive(tmp_path / "b")
