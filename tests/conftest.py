"""Fixtures: the folder of data, weights and golden vectors beside the checkout, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with data/, golden/ and weights; the test skips where it is absent."""
    folder = Path(os.environ.get("LOWWATT_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the data folder is not here (set LOWWATT_SHARED)")
    return folder
