"""docs/supported-ops.md says what the operator rules say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowwatt.compiler.ops_page import render
from lowwatt.compiler.rewrites import EXACT, INEXACT
from lowwatt.ir.ops import operator_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supported-ops.md"


def test_the_page_is_the_rendered_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "python -m lowwatt.compiler.ops_page > docs/supported-ops.md"


@pytest.mark.parametrize("op", operator_names())
def test_every_operator_is_on_the_page(op: str) -> None:
    table, _, rest = render().partition("On the host always: ")
    host = rest.splitlines()[0].rstrip(".").split(", ")
    assert (f"| {op} |" in table) != (op in host)


def test_every_rewrite_is_on_the_page() -> None:
    page = render()
    for one in (*EXACT, *INEXACT):
        assert f"| {one.name} | {', '.join(one.ops)} | " in page and one.what in page


def test_cells_hold_the_limits() -> None:
    row = next(line for line in render().splitlines() if line.startswith("| max_pool |"))
    _, _, isa0, isa1, _ = row.split("|")
    assert "kernels and strides are 1 to 8" in isa0 and "1 to 256" in isa1
