"""The code that pages of the documentation show runs, and makes the pictures that stand beside it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with mpl.rc_context():
        yield
    mpl.pyplot.close("all")


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:.*low contrast image")
def test_the_page_of_results_runs_and_makes_its_pictures(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    made.run_page("results", tmp_path)
    shown = set(re.findall(r"\(images/(results_\w+\.png)\)", (DOCS / "results.md").read_text(encoding="utf-8")))
    assert shown - {"results_report.png"} == {path.name for path in tmp_path.glob("results_*.png")}
    assert (tmp_path / "report.html").stat().st_size > 10_000
    for name in shown:
        with Image.open(DOCS / "images" / name) as image:
            assert image.width <= 1000
        assert (DOCS / "images" / name).stat().st_size < 100_000
