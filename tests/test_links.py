"""Links in the README, the pages and the notebooks lead to what is there; `make docs` checks those among pages."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]


def prose_of(path: Path) -> str:
    """Text of a page or of a notebook's cells, without its code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}).*?^\1|`[^`\n]+`(?!\])", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """What GitHub and MyST make of a heading."""
    kept = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFKC", heading.replace("`", "")).strip().lower())
    return kept.replace(" ", "-")


def links_of(path: Path) -> list[str]:
    return re.findall(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)", prose_of(path))


@pytest.mark.parametrize("path", TEXTS, ids=[path.name for path in TEXTS])
def test_links_of_a_text_lead_to_files_and_headings_that_are_there(path: Path) -> None:
    for link in links_of(path):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:")), link
            continue
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if heading:
            text = re.sub(r"^```.*?^```", "", target.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
            assert heading in {anchor(found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}, link


def test_the_readme_and_the_index_lead_to_the_guides() -> None:
    """So that a pattern that finds no link at all is noticed."""
    assert {"docs/sift.md", "docs/pairs.md", "CONTRIBUTING.md"} <= set(links_of(ROOT / "README.md"))
    assert "reliability.md" in links_of(ROOT / "docs" / "why.md")
