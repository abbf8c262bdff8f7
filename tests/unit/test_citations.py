"""Docstrings cite sections of the reference pages, as `docs/dpu.md 3.2`; every section cited must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(rf"docs/([\w-]+\.md)\s+({NUMBER}(?:(?:, | and ){NUMBER})*)")


def cited(folder: str) -> dict[tuple[str, str], str]:
    """File that cites each (page, section)."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        for page, numbers in CITATION.findall(file.read_text(encoding="utf-8")):
            found.update({(page, number): file.name for number in re.findall(NUMBER, numbers)})
    return found


def sections(page: str) -> set[str]:
    """Numbers of a page's headings."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {number.rstrip(".") for number in re.findall(r"^#+ (\d[\d.]*)", text, re.MULTILINE)}


def test_the_search_finds_citations() -> None:
    assert CITATION.findall("(docs/dpu.md\n4.5, 4.6) and docs/dpu.md 3.") == [("dpu.md", "4.5, 4.6"), ("dpu.md", "3")]
    assert len(cited("src")) > 20


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_every_cited_section_is_there(folder: str) -> None:
    pages = {page: sections(page) for page, _ in cited(folder)}
    lost = {key: file for key, file in cited(folder).items() if key[1] not in pages[key[0]]}
    assert not lost
