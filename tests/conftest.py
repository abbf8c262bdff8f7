"""Fixtures: the folder of data, weights and golden vectors beside the checkout, where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lowwatt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """lowwatt(*arguments) → exit code, stdout, stderr, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        from lowwatt.cli import main

        monkeypatch.setattr("sys.argv", ["lowwatt", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with data/, golden/ and weights; the test skips where it is absent."""
    folder = Path(os.environ.get("LOWWATT_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the data folder is not here (set LOWWATT_SHARED)")
    return folder
